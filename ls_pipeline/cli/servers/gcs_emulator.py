"""Runs the GCS emulator with a CORS rule on all of its buckets, and with a token server.

Run as ``python -m ls_pipeline.cli.servers.gcs_emulator``.

In Label Studio a browser loads an image from a bucket only if a CORS rule of the bucket allows it.
Label Studio signs ``gs://`` URLs with a service account's key, after it got a token from the
account's token server. The emulator has neither, and checks no token.
"""

from __future__ import annotations

import sys
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main


class AnyOrigin(server.RequestHandler):  # type: ignore[misc]
    """Allows every origin to read every response."""

    def end_headers(self) -> None:
        """Add the header that a CORS rule for all origins adds."""
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


def issue_token(request: Any, response: Any, _storage: object) -> None:
    """Answer as the token server of every service account."""
    _ = request.data  # a response before the end of the request may be lost
    response.json({"access_token": "any", "expires_in": 3600, "token_type": "Bearer"})


if __name__ == "__main__":
    server.RequestHandler = AnyOrigin
    server.HANDLERS = (("^/token$", {"POST": issue_token}), *server.HANDLERS)
    main(["start", "--in-memory", *sys.argv[1:]])

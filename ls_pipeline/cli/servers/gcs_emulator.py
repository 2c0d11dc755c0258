"""Runs the GCS emulator with a CORS rule on all of its buckets.

Run as ``python -m ls_pipeline.cli.servers.gcs_emulator``.

In Label Studio a browser loads an image from a bucket only if a CORS rule of the bucket allows it.
Real buckets need such a rule, and the emulator doesn't support them.
"""

from __future__ import annotations

import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main


class AnyOrigin(server.RequestHandler):  # type: ignore[misc]
    """Allows every origin to read every response."""

    def end_headers(self) -> None:
        """Add the header that a CORS rule for all origins adds."""
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


if __name__ == "__main__":
    server.RequestHandler = AnyOrigin
    main(["start", "--in-memory", *sys.argv[1:]])

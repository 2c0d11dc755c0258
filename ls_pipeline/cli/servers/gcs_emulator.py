"""The GCS emulator, with a CORS rule on its buckets.

Run as ``python -m ls_pipeline.cli.servers.gcs_emulator``.

A browser shows a picture of another origin in Label Studio only when the bucket allows it; a
real bucket needs such a rule, and the emulator knows none.
"""

from __future__ import annotations

import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main


class AnyOrigin(server.RequestHandler):  # type: ignore[misc]
    """Allow every origin to read every answer."""

    def end_headers(self) -> None:
        """Add the header that a CORS rule for any origin gives."""
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


if __name__ == "__main__":
    server.RequestHandler = AnyOrigin
    main(["start", "--in-memory", *sys.argv[1:]])

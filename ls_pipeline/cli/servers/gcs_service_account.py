"""A service account for the GCS emulator, so that Label Studio can sign URLs of its objects.

Label Studio signs ``gs://`` URLs with a service account's key, after it got a token from the
account's token server. This module creates a key and serves tokens. The emulator checks neither.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = json.dumps({"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}).encode()


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(TOKEN)))
        self.end_headers()
        self.wfile.write(TOKEN)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def service_account(file: Path) -> Iterator[dict[str, str]]:
    """Write a key to ``file`` and serve its tokens. Yield the variables for Label Studio."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    Thread(target=server.serve_forever, daemon=True).start()
    key = {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "demo",
        "private_key": _private_key(),
        "client_email": "demo@demo.iam.gserviceaccount.com",
        "client_id": "demo",
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(key))
    try:
        yield {"LABEL_STUDIO_GOOGLE_CREDENTIALS": str(file)}
    finally:
        server.shutdown()
        server.server_close()


def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization  # of the extra `demo`
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text.decode()

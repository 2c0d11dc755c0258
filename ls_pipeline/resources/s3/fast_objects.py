"""Small objects of S3, read and written in a tenth of the processor time that botocore takes.

obstore does it, and is believed only where the version proves it: an object that was put whole, and
is not encrypted with a key of KMS, has the MD5 of its bytes as its version. Whatever else it says,
or can't, is done by botocore, which knows all kinds of stores, credentials and refusals.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MISSES_AT_MOST = 10
"""In a row, before a bucket is left to botocore alone."""

CREDENTIALS_LAST = timedelta(minutes=10)
"""botocore renews credentials in the last ten minutes of their life, so that they last as long."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"(?!\.{1,2}(/|$))[\w.=-]+(/(?!\.{1,2}(/|$))[\w.=-]+)*", re.ASCII)
"""Keys that obstore is known to leave as they are."""


class FastObjects:
    """The objects of one bucket, for the credentials of a client of botocore.

    ``authorities`` is a file of certificates to trust beside the system's, or empty. Raises as
    botocore does when the client has no credentials, and ``OSError`` when there is no such file.
    """

    def __init__(self, client: Any, bucket: str, authorities: str) -> None:
        from obstore.store import S3Store  # not needed to load the definitions

        signed = client.generate_presigned_url("head_bucket", Params={"Bucket": bucket})
        address = signed.partition("?")[0].rstrip("/")
        trusted = {"root_certificate": Path(authorities).read_bytes()} if authorities else {}
        config = client.meta.config
        options: Any = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=config.connect_timeout),
            "read_timeout": timedelta(seconds=config.read_timeout),
            "timeout": timedelta(hours=1),
            **trusted,
        }
        self._store = S3Store(
            bucket,
            endpoint=address,
            aws_endpoint_url_s3=address,  # or a variable of that name wins
            virtual_hosted_style_request=True,  # the address has the bucket in it, either way
            region=client.meta.region_name or "us-east-1",
            checksum_algorithm="sha256",  # the store refuses what does not match it
            credential_provider=_credentials(client),
            client_options=options,
            retry_config={"max_retries": 2},
        )
        self._misses = 0

    def get(self, key: str, version: str) -> bytes | None:
        """Read this version of an object; None when that is botocore's business."""
        import obstore

        if not _MD5.fullmatch(version):  # of an upload in parts, which is no MD5
            return None
        asked: Any = {"if_match": f'"{version}"'}
        body = self._tried(lambda: obstore.get(self._store, key, options=asked).bytes().to_bytes())
        return body if self._counted(body is not None and md5(body) == version) else None

    def put(self, key: str, body: bytes, content_type: str) -> str | None:
        """Write an object, replacing what is there; give its version.

        None when that is botocore's business, whether anything was written or not.
        """
        import obstore

        if not _PLAIN.fullmatch(key):
            return None
        kind: Any = {"Content-Type": content_type}
        asked: Any = {"attributes": kind, "use_multipart": False}
        told = self._tried(lambda: obstore.put(self._store, key, body, **asked))
        version = md5(body)
        confirmed = told is not None and (told["e_tag"] or "").strip('"') == version
        return version if self._counted(confirmed) else None

    def give_up(self) -> None:
        """Leave the bucket to botocore from now on."""
        self._misses = MISSES_AT_MOST

    def _tried(self, do: Callable[[], Any]) -> Any:
        import obstore

        if self._misses >= MISSES_AT_MOST:
            return None
        try:
            return do()
        except (obstore.exceptions.BaseError, OSError, ValueError, NotImplementedError):
            return None
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # Rust's, and no Exception
                return None
            raise

    def _counted(self, hit: bool) -> bool:  # noqa: FBT001 - it is handed on
        self._misses = 0 if hit else self._misses + 1
        return hit


def _credentials(client: Any) -> Callable[[], Any]:
    """Give what obstore asks for credentials, now and when they run out."""
    signer = client._request_signer  # noqa: SLF001 - a client tells nobody else

    def told() -> dict[str, Any]:
        now = signer._credentials.get_frozen_credentials()  # noqa: SLF001
        keys = {"access_key_id": now.access_key, "secret_access_key": now.secret_key}
        token = {"token": now.token} if now.token else {}
        return {**keys, **token, "expires_at": datetime.now(timezone.utc) + CREDENTIALS_LAST}

    return told


def md5(body: bytes) -> str:
    """Give the version that S3 gives to most objects with this content."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()

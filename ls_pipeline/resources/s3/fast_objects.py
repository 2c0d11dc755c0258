"""Small objects of S3, read and written in a tenth of botocore's processor time.

obstore does it. Its result counts only if the version proves it: the version of an object that was
put in one request, and is not encrypted with a KMS key, is the MD5 of its bytes. For everything
else the caller uses botocore, which knows all kinds of stores, credentials and refusals.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ls_pipeline.resources.patience import Patience

MAX_MISSES = 10
"""Misses in a row after which a bucket is left to botocore."""

CREDENTIALS_LAST = timedelta(minutes=10)
"""botocore renews credentials in the last ten minutes of their life, so they last this long."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_PLAIN_KEY = re.compile(r"(?!\.{1,2}(/|$))[\w.=-]+(/(?!\.{1,2}(/|$))[\w.=-]+)*", re.ASCII)
"""Keys that obstore does not change."""


class FastObjects:
    """The objects of one bucket, with the credentials of a botocore client.

    ``certificates`` is a file of certificates to trust besides the system's, or empty; None: any
    certificate is trusted. Raises as botocore does if the client has no credentials, and
    ``OSError`` if the file is missing.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        certificates: str | None,
        patience: Patience,
        *,
        checksum: str = "sha256",
        requester_pays: bool = False,
    ) -> None:
        from obstore.store import S3Store  # not needed to load the definitions

        self._patience = patience

        signed_url = client.generate_presigned_url("head_bucket", Params={"Bucket": bucket})
        address = signed_url.partition("?")[0].rstrip("/")
        trusted = {"root_certificate": Path(certificates).read_bytes()} if certificates else {}
        config, seconds = client.meta.config, self._patience.seconds / 4
        # The store refuses a body that does not match its checksum.
        sent: Any = {"checksum_algorithm": checksum} if checksum == "sha256" else {}
        options: Any = {
            "allow_http": True,
            "allow_invalid_certificates": certificates is None,
            "connect_timeout": timedelta(seconds=min(config.connect_timeout, seconds)),
            "read_timeout": timedelta(seconds=min(config.read_timeout, seconds)),
            "timeout": timedelta(seconds=2 * seconds),  # in all; botocore has the other half
            **trusted,
        }
        self._store = S3Store(
            bucket,
            endpoint=address,
            aws_endpoint_url_s3=address,  # else a variable of that name takes precedence
            virtual_hosted_style_request=True,  # the address includes the bucket in either style
            region=client.meta.region_name or "us-east-1",
            request_payer=requester_pays,
            conditional_put="etag",
            credential_provider=_credentials(client),
            client_options=options,
            # What took longer is not repeated: botocore has the rest of the time.
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=seconds / 2)},
            **sent,
        )
        self._misses = 0

    def get(self, key: str, version: str) -> bytes | None:
        """Read this version of an object; None if the caller has to use botocore."""
        import obstore

        if not _MD5.fullmatch(version):  # a multipart upload
            return None
        options: Any = {"if_match": f'"{version}"'}
        body = self._attempt(
            lambda: obstore.get(self._store, key, options=options).bytes().to_bytes()
        )
        is_hit = body is not None and self._count(hit=md5(body) == version)
        return body if is_hit else None

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> str | None:
        """Write an object, replacing any other, or only a version; return its version.

        None if the caller has to use botocore, whether the object was written or not.
        """
        import obstore

        if not _PLAIN_KEY.fullmatch(key):
            return None
        options: Any = {
            "attributes": {"Content-Type": content_type},
            "use_multipart": False,
            "mode": _mode(if_version),
        }
        result = self._attempt(lambda: obstore.put(self._store, key, body, **options))
        version = md5(body)
        is_hit = result is not None and self._count(
            hit=(result["e_tag"] or "").strip('"') == version
        )
        return version if is_hit else None

    def give_up(self) -> None:
        """Leave the bucket to botocore from now on."""
        self._misses = MAX_MISSES

    def _attempt(self, request: Callable[[], Any]) -> Any:
        """Return the result of a request; None if it failed, which counts as a miss."""
        from obstore import exceptions as failed

        if self._misses >= MAX_MISSES or self._patience.is_silent:
            return None
        began = self._patience.now()
        try:
            result = request()
        except (failed.AlreadyExistsError, failed.NotModifiedError, failed.PreconditionError):
            return None  # no miss: the object has another version
        except (failed.BaseError, OSError, ValueError, NotImplementedError):
            self._count(hit=False)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's, no subclass of Exception
                raise
            self._count(hit=False)
        else:
            self._patience.answered()
            return result
        self._patience.hand_on(began)
        return None

    def _count(self, *, hit: bool) -> bool:
        self._misses = 0 if hit else self._misses + 1
        return hit


def _mode(if_version: str | None) -> Any:
    """Return obstore's word for a put's condition on the object that it replaces.

    The version is not quoted: Ceph compares it with its own letter by letter.
    """
    if if_version is None:
        return "overwrite"
    return {"e_tag": if_version} if if_version else "create"


def _credentials(client: Any) -> Callable[[], Any]:
    """Return the function that obstore calls for credentials, now and when they expire."""
    signer = client._request_signer  # noqa: SLF001 - the only way to a client's credentials

    def current() -> dict[str, Any]:
        keys = signer._credentials.get_frozen_credentials()  # noqa: SLF001
        token = {"token": keys.token} if keys.token else {}
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            **token,
            "expires_at": datetime.now(timezone.utc) + CREDENTIALS_LAST,
        }

    return current


def md5(body: bytes) -> str:
    """Return the version of most S3 objects with this content."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()

"""How objects are written to S3: their encryption, and the checksum that is sent with them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

    from ls_pipeline.settings.params import TargetParams

KMS = "aws:kms"

CHECKSUMS = ("sha256", "md5", "none")
"""Kinds of checksums, the best first. A store that refuses one may accept the next."""


@dataclass(frozen=True)
class Writing:
    """The options of a target for what is written."""

    kms_key_id: str = ""
    """The key that encrypts written objects."""
    server_side_encryption: str = ""
    checksum: str = "auto"
    """One of `CHECKSUMS`, or ``auto``."""

    @classmethod
    def of(cls, params: TargetParams) -> Writing:
        """Return the options that a target's params set."""
        return cls(params.kms_key_id, params.server_side_encryption, params.checksum)

    @property
    def encryption(self) -> dict[str, str]:
        """The options of a request that writes; empty if the bucket's own setting applies."""
        if self.kms_key_id:
            return {"ServerSideEncryption": KMS, "SSEKMSKeyId": self.kms_key_id}
        kind = self.server_side_encryption
        return {"ServerSideEncryption": kind} if kind else {}


DEFAULT_WRITING = Writing()


def checksum_of(kind: str, body: bytes) -> dict[str, str]:
    """Return the option of a put with a checksum: the store refuses a body that differs from it."""
    if kind == "sha256":
        return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    if kind == "md5":
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return {"ContentMD5": base64.b64encode(digest).decode()}
    return {}


def checksum_of_parts(kind: str) -> dict[str, str]:
    """Return the option of an upload in parts with a checksum; empty with MD5."""
    return {"ChecksumAlgorithm": "SHA256"} if kind == "sha256" else {}


def multipart_version(file: Path, part_size: int) -> str:
    """Return the version of most S3 objects that were uploaded in parts of that many bytes."""
    parts = hashlib.md5(usedforsecurity=False)
    count = 0
    with file.open("rb") as stream:
        while part := stream.read(part_size):
            parts.update(hashlib.md5(part, usedforsecurity=False).digest())
            count += 1
    return f"{parts.hexdigest()}-{count}"


def same_bytes(one: BinaryIO, other: BinaryIO, chunk: int) -> bool:
    """Return whether two files have the same bytes from their positions to their ends."""
    while (piece := one.read(chunk)) == other.read(chunk):
        if not piece:
            return True
    return False

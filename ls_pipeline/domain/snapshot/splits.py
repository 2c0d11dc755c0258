"""Which tasks a model is trained on, and which it is tried on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of the data is set aside, 0 to 1 together; the rest is for training."""

    validation: float = 0.1
    test: float = 0.1


def split_of(object_uri: str, shares: Shares) -> str:
    """Give the split of an object: by its URI alone, so that it stays there for ever.

    All rows of an object are in one split. While shares grow, objects leave ``train`` only.
    """
    digest = hashlib.sha256(object_uri.encode(errors="surrogatepass")).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    if at < shares.test:
        return "test"
    return "validation" if at >= 1 - shares.validation else "train"

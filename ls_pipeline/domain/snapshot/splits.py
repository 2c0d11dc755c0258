"""Which tasks a model is trained on, and which it is evaluated on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the validation and test splits; the rest is for training."""

    validation: float = 0.1
    test: float = 0.1


def assign_split(object_uri: str, shares: Shares) -> Split:
    """Return the split of an object, which depends on its URI alone and so never changes.

    All rows of an object are in one split. If shares grow, objects leave ``train`` only.
    """
    digest = hashlib.sha256(object_uri.encode(errors="surrogatepass")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < shares.test:
        return "test"
    return "validation" if position >= 1 - shares.validation else "train"

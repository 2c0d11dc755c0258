"""The mark of a target: which ledger writes there, and how far its connections have come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ls_pipeline.domain.completions import fits_64_bits
from ls_pipeline.domain.snapshot.manifest import training_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTE = "ls-pipeline uses this file to know the folder. Do not edit it."

LARGEST = 2**20
"""Bytes; a larger object counts as the mark of another program."""


@dataclass(frozen=True, slots=True)
class TargetMark:
    """A ledger's id, and the generation of each of its connections that writes to the target."""

    ledger: str
    generations: Mapping[str, int]

    @classmethod
    def parse(cls, body: bytes) -> TargetMark:
        """Parse what `as_bytes` made. The mark of anything else has an empty ledger."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        match document:
            case {"ledger": str(ledger), "generations": {**found}}:
                generations = {str(name): n for name, n in found.items() if fits_64_bits(n)}
                if len(generations) == len(found):
                    return cls(ledger, generations)
        return cls("", {})

    def raised(self, connection: str, generation: int) -> TargetMark:
        """Return the mark with another generation of a connection."""
        return TargetMark(self.ledger, {**self.generations, connection: generation})

    def as_bytes(self) -> bytes:
        """Return the mark as JSON."""
        document = {"note": NOTE, "ledger": self.ledger, "generations": dict(self.generations)}
        return (json.dumps(document, indent=1) + "\n").encode()


def mark_key(prefix: str) -> str:
    """Return the key of the mark of a target with this prefix."""
    return training_folder(prefix) + "mark.json"

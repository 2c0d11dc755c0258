"""How long the parts of a pass took, for people to see where its time goes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Took:
    """Seconds of a pass, by part; what is no part's is the whole's alone."""

    parts: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Count the time of a block, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - began

    def metadata(self) -> dict[str, dg.FloatMetadataValue]:
        """Give ``seconds``, so far, and ``seconds_<part>`` for each part; Dagster plots them."""
        seconds = {f"seconds_{part}": took for part, took in self.parts.items()}
        whole = {"seconds": time.perf_counter() - self.began, **seconds}
        return {name: dg.MetadataValue.float(round(took, 3)) for name, took in whole.items()}

"""What a run over one connection works with."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from ls_pipeline.engine.effects import Effects
from ls_pipeline.engine.identity import TargetIdentity
from ls_pipeline.engine.projects import HeldProjects
from ls_pipeline.resources.environment import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import HeldConnection
    from ls_pipeline.resources.ledger.records import Revision
    from ls_pipeline.resources.progress import Progress
    from ls_pipeline.settings.model import Connection, Source, Target

Item = TypeVar("Item")


@dataclass
class Timings:
    """Seconds that a run has taken, as a whole and by part."""

    parts: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part, however the block ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - began

    def timing_each(self, part: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items; add the time until each comes to a part."""
        iterator = iter(items)
        while True:
            with self.timing(part):
                item = next(iterator, None)
            if item is None:
                return
            yield item
            del item  # before the next is waited for

    def seconds(self) -> dict[str, float]:
        """Return ``seconds``, so far, and ``seconds_<part>`` of each part."""
        parts = {f"seconds_{part}": seconds for part, seconds in self.parts.items()}
        return {"seconds": time.perf_counter() - self.began, **parts}


@dataclass(frozen=True)
class RunContext:
    """A connection that a run holds, its settings, and the systems outside.

    ``bucket`` is the source's or the target's, whichever the run works on.
    """

    held: HeldConnection
    revision: Revision
    bucket: Bucket
    app: LabelingApp
    progress: Progress
    timings: Timings = field(default_factory=Timings)
    open_bucket: Callable[[Source | Target], Bucket] | None = None
    """Opens another bucket: that of an earlier target."""
    allow_mass_change: bool = False
    """Whether a person consents to what the guard would stop."""
    place: Place = field(default_factory=Place)
    """Where local copies and the secret of webhooks are."""

    @property
    def name(self) -> str:
        return self.held.name

    @property
    def connection(self) -> Connection:
        return self.revision.connection

    @property
    def source(self) -> Source:
        """The connection's source. Raises ``ValueError`` if it has none."""
        if self.connection.source is None:
            raise ValueError(f"connection {self.name!r} has no source")
        return self.connection.source

    @property
    def target(self) -> Target:
        """The connection's target. Raises ``ValueError`` if it has none."""
        if self.connection.target is None:
            raise ValueError(f"connection {self.name!r} has no target")
        return self.connection.target

    @cached_property
    def projects(self) -> HeldProjects:
        """The connection's Label Studio projects; `HeldProjects.find` looks them up first."""
        return HeldProjects(self.held, self.app, self.connection)

    @cached_property
    def target_identity(self) -> TargetIdentity:
        """The target's mark, which `TargetIdentity.check` reads first."""
        return TargetIdentity(self.held, self.bucket, self.target)

    @cached_property
    def effects(self) -> Effects:
        """What the run changes outside, each change recorded before it happens."""
        return Effects(self.held, self.app, self.projects, self.revision.number)

    def advance(self, work: str, done: int, total: int | None = None) -> None:
        """Report progress: this much of some work is done. Raises ``RunTooLongError``."""
        self.held.check_time()
        self.progress.advance(self.name, work, done, total)

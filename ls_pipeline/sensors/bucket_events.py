"""Where buckets' notifications hint at, and what a look finds there.

They are hints: what differs is found by a look at the bucket and the ledger, and by the usual
sweeps where a hint was lost. So whatever is in a queue is taken out of it, understood or not.
What can't be looked at now, as a run is under way, is remembered here and not left in the queue,
which would count it as failed and, after a few times, put it with its dead letters.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ls_pipeline.domain.events import BucketEvent, differs_at, needs_probe, parse_message
from ls_pipeline.sensors.probes import Deadline, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import rotate, skip_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.domain.events import Message
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.status import Standing
    from ls_pipeline.resources.queue import Queue
    from ls_pipeline.sensors.tick import Tick
    from ls_pipeline.settings.model import Source

WAIT_SECONDS = 2.0
"""For a message: one that comes meanwhile is seen at once."""

READING_SECONDS = 4.0
"""After which no further queue is read in a tick; it is the first of the next."""

MESSAGES_AT_MOST = 1000
"""Of a queue in one tick."""

LOOKS_AT_MOST = 20
"""At a bucket, for one connection in one tick: hints that find nothing are late, or forged."""

KEPT = 5
"""Hints that are remembered of a connection; the sweep sees what the others meant."""

REJECTIONS_AT_MOST = 3
"""Sentences about the messages of one queue in one tick."""


@dataclass
class Backlog:
    """What the next tick needs of this one; with a lost one nothing is missed."""

    kept: dict[str, list[BucketEvent]] = field(default_factory=dict)
    """By connection, those that it had to wait with, the newest last."""
    turn: str = ""
    """The connection whose queue comes first."""
    next: str = ""
    """The connection whose bucket comes first."""


@dataclass
class QueueBatch:
    """What came of one queue."""

    queue: Queue
    messages: list[Message] = field(default_factory=list)
    hints: list[BucketEvent] = field(default_factory=list)


def queue_of(standing: Standing) -> str:
    """Name the queue of a connection's source, if it has one."""
    source = standing.connection.source
    return source.params.notifications if source else ""


def read(
    standings: Mapping[str, Standing],
    open_queue: Callable[[Source], Queue],
    memory: Backlog,
    looks: ProbePool,
    tick: Tick,
) -> dict[str, QueueBatch]:
    """Read each queue once; give what came, by the first connection that names the queue."""
    queues: dict[str, Queue] = {}
    for name, standing in standings.items():
        source = standing.connection.source
        if source and queue_of(standing) and (queue := open_queue(source)) not in queues.values():
            queues[name] = queue
    came: dict[str, QueueBatch] = {}

    def take(name: str, _turn: Deadline) -> ProbeResult:
        messages = queues[name].receive(MESSAGES_AT_MOST, WAIT_SECONDS)
        return ProbeResult(told=QueueBatch(queues[name], messages) if messages else None)

    names = deque(rotate(sorted(queues), memory.turn))
    until = min(time.monotonic() + READING_SECONDS, tick.deadline)
    for name, found in looks.run_round_robin(names, take, until):
        if found.why:
            tick.skip(name, found.why)
        if found.told:  # or what an earlier tick didn't wait for
            came[name] = found.told
    memory.turn = names[0] if names else ""
    for name, one in came.items():
        _hear(name, one, tick)
    return came


def _hear(name: str, one: QueueBatch, tick: Tick) -> None:
    told = [parse_message(message) for message in one.messages]
    one.hints = [event for each in told for event in each.events]
    rejections = [each.rejection for each in told if each.rejection]
    for what in list(dict.fromkeys(rejections))[:REJECTIONS_AT_MOST]:
        count = rejections.count(what)
        which = "a message is" if count == 1 else f"{count} messages are"
        tick.skip(name, f"{which} taken out of {one.queue.address} unheard: {what}.")


def follow(  # noqa: PLR0913, PLR0917 - the parts that a tick puts together
    standings: Mapping[str, Standing],
    came: Iterable[QueueBatch],
    open_bucket: Callable[[Source], Bucket],
    coming: Collection[str],
    memory: Backlog,
    looks: ProbePool,
    tick: Tick,
) -> None:
    """Look where hints lead, side by side; of each connection until something differs."""
    before, memory.kept = memory.kept, {}
    came, paths = list(came), dict[str, _PendingEvents]()
    for name, standing in standings.items():
        if source := standing.connection.source:
            hints = before.get(name, []) + _routed(came, source)
            path = _PendingEvents.along(standing, source, hints)
            if path.hints and (reason := skip_reason(standing, coming, "tasks")):
                tick.skip(name, reason)
                memory.kept[name] = path.hints[-KEPT:]
            elif path.hints:
                paths[name] = path

    def look(name: str, turn: Deadline) -> ProbeResult:
        return paths[name].walk(open_bucket, turn)

    names = deque(rotate(sorted(paths), memory.next))
    for name, found in looks.run_round_robin(names, look, tick.deadline):
        tick.take(name, found)
        if paths[name].hints and not (found.wanted or found.why):
            memory.kept[name] = paths[name].hints[-KEPT:]
    memory.next = names[0] if names else ""
    for name in names:  # there was no time for
        memory.kept[name] = paths[name].hints[-KEPT:]


def acknowledge(came: Mapping[str, QueueBatch], looks: ProbePool, tick: Tick) -> None:
    """Take out what was read: the one effect of a tick, and nothing is lost if it is lost."""

    def acknowledged(name: str, _turn: Deadline) -> ProbeResult:
        came[name].queue.acknowledge(came[name].messages)
        return ProbeResult()

    for name, found in looks.run_round_robin(deque(came), acknowledged, tick.deadline):
        if found.why:
            tick.skip(name, found.why)


def _routed(came: Sequence[QueueBatch], source: Source) -> list[BucketEvent]:
    """Give the hints at a source's bucket that came through its own queue."""
    mine = (one for one in came if one.queue.address == source.params.notifications)
    return [hint for one in mine for hint in one.hints if hint.bucket == source.path]


@dataclass
class _PendingEvents:
    """Where the hints of one connection lead; those that were followed are gone from it."""

    source: Source
    known: Mapping[str, KnownObject]
    hints: list[BucketEvent]

    @classmethod
    def along(
        cls, standing: Standing, source: Source, hints: Sequence[BucketEvent]
    ) -> _PendingEvents:
        """Choose the hints that are worth a look, one for each key."""
        newest, select = {hint.key: hint for hint in hints}, source.params.filter
        known = standing.account.known_at(list(newest)) if newest else {}
        worth = [one for one in newest.values() if needs_probe(one, known.get(one.key), select)]
        return cls(source, known, worth)

    def walk(self, open_bucket: Callable[[Source], Bucket], turn: Deadline) -> ProbeResult:
        """Look at key after key, the newest first, until one differs or the turn is over."""
        bucket = open_bucket(self.source)
        for _ in range(min(len(self.hints), LOOKS_AT_MOST)):
            key = self.hints.pop().key
            listed = next(bucket.pages(key), [])
            if differs_at(key, self.known.get(key), listed, self.source.params.filter):
                return ProbeResult(wanted=True)
            if turn.over:
                break
        return ProbeResult()

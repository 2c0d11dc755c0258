"""Notifications of buckets: each names a key to compare with the ledger.

A message may be lost, late or forged. So only the comparison decides, and the regular scans find
what no message named. Every message is removed from its queue, valid or not. An event that has to
wait for a run stays in the cursor: its message would count as failed, and become a dead letter.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING

from ls_pipeline.domain.events import BucketEvent, differs_at, needs_probe, parse_message
from ls_pipeline.engine.manifest import Manifest, manifest_of, read_as, read_by
from ls_pipeline.sensors.probes import Deadline, Probe, ProbePool, ProbeResult
from ls_pipeline.sensors.tick import rotate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ls_pipeline.domain.diff import KnownObject
    from ls_pipeline.domain.events import Message
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.status import ConnectionStatus
    from ls_pipeline.resources.queue import Queue
    from ls_pipeline.sensors.tick import Candidates, Tick
    from ls_pipeline.settings.model import Source

WAIT_SECONDS = 2.0
"""How long to wait for a message: one that arrives in this time is seen at once."""

READ_SECONDS = 4.0
"""After this time a tick reads no further queue; the next tick begins with it."""

MESSAGES_AT_MOST = 1000
"""Messages of one queue in one tick."""

KEYS_AT_MOST = 20
"""Keys that one tick compares for one connection: events without a change may be forged."""

EVENTS_KEPT = 5
"""Events kept for the next tick, by connection; the regular scan finds the other changes."""

REJECTIONS_AT_MOST = 3
"""Different reasons that one tick reports about the messages of one queue."""


@dataclass
class Backlog:
    """What a tick leaves to the next. If it is lost, the regular scan finds the changes."""

    events: dict[str, list[BucketEvent]] = field(default_factory=dict)
    """By connection, those not compared yet, the newest last."""
    first_queue: str = ""
    """The connection whose queue is read first."""
    first_bucket: str = ""
    """The connection whose keys are compared first."""

    def keep(self, name: str, events: Sequence[BucketEvent]) -> None:
        if events:
            self.events[name] = list(events[-EVENTS_KEPT:])


@dataclass(frozen=True, slots=True)
class QueueBatch:
    """The messages that one queue delivered in one tick."""

    queue: Queue
    messages: Sequence[Message]
    events: Sequence[BucketEvent]
    rejections: Sequence[str]
    """Why messages have no event."""

    @classmethod
    def receive(cls, queue: Queue) -> QueueBatch:
        messages = queue.receive(MESSAGES_AT_MOST, WAIT_SECONDS)
        all_parsed = [parse_message(message) for message in messages]
        events = [event for parsed in all_parsed for event in parsed.events]
        rejections = [parsed.rejection for parsed in all_parsed if parsed.rejection]
        return cls(queue, messages, events, rejections)


def queue_of(status: ConnectionStatus) -> str:
    """Return the address of a connection's queue; empty if it has none."""
    source = status.connection.source
    return source.params.notifications if source else ""


def read_queues(
    statuses: Mapping[str, ConnectionStatus],
    open_queue: Callable[[Source], Queue],
    backlog: Backlog,
    pool: ProbePool,
    tick: Tick,
) -> dict[str, QueueBatch]:
    """Read each queue once; return what it delivered, by the first connection that names it."""
    queues: dict[str, Queue] = {}
    for name, status in statuses.items():
        source = status.connection.source
        if source and queue_of(status) and (queue := open_queue(source)) not in queues.values():
            queues[name] = queue

    def probe_of(name: str) -> Probe:
        queue = queues[name]
        return lambda _deadline: ProbeResult(value=QueueBatch.receive(queue))

    batches: dict[str, QueueBatch] = {}
    names = deque(rotate(sorted(queues), backlog.first_queue))
    deadline = min(Deadline.after(READ_SECONDS), tick.deadline)
    for name, result in pool.run_round_robin(names, probe_of, deadline):
        if result.reason:
            tick.skip(name, result.reason)
        elif result.value and result.value.messages:
            batches[name] = result.value
    backlog.first_queue = names[0] if names else ""
    for name, batch in batches.items():
        for rejection, count in islice(Counter(batch.rejections).items(), REJECTIONS_AT_MOST):
            which = "a message was" if count == 1 else f"{count} messages were"
            tick.skip(name, f"{which} discarded from {batch.queue.address}: {rejection}.")
    return batches


def acknowledge(batches: Mapping[str, QueueBatch], pool: ProbePool, tick: Tick) -> None:
    """Remove the messages from their queues. If that fails, they arrive once more."""

    def probe_of(name: str) -> Probe:
        return partial(_acknowledge, batches[name])

    for name, result in pool.run_round_robin(deque(batches), probe_of, tick.deadline):
        if result.reason:
            tick.skip(name, result.reason)


def _acknowledge(batch: QueueBatch, _deadline: Deadline) -> ProbeResult:
    batch.queue.acknowledge(batch.messages)
    return ProbeResult()


@dataclass(frozen=True, slots=True)
class KeyProbe:
    """Keys of one connection's bucket to compare with the ledger."""

    source: Source
    known: Mapping[str, KnownObject]
    events: Sequence[BucketEvent]
    """One for each key, the newest last."""
    read_as: str = ""
    """How the last run read the objects, with the version of the manifest if there is one."""

    @classmethod
    def of(
        cls, status: ConnectionStatus, source: Source, events: Iterable[BucketEvent]
    ) -> KeyProbe:
        """Select the events that the ledger does not reflect yet."""
        newest, select = {event.key: event for event in events}, source.params.filter
        known = status.ledger.objects.known_at(list(newest)) if newest else {}
        manifest = source.params.manifest
        read = status.ledger.sidecars.read_as() if manifest else ""
        selected = [
            event
            for key, event in newest.items()
            if (
                read != read_by(manifest, event.version)
                if key == manifest
                else needs_probe(event, known.get(key), select)
            )
        ]
        return cls(source, known, selected, read)

    def run(self, open_bucket: Callable[[Source], Bucket], deadline: Deadline) -> ProbeResult:
        """Compare key after key, the newest first, to the first difference or the deadline.

        If nothing differs, the value of the result is the events that remain.
        """
        bucket, events = open_bucket(self.source), list(self.events)
        manifest = cache(partial(manifest_of, bucket, self.source.params))
        for _ in range(min(len(events), KEYS_AT_MOST)):
            key = events.pop().key
            if self._is_wanted(key, bucket, manifest):
                return ProbeResult(wanted=True)
            if deadline.has_passed:
                break
        return ProbeResult(value=events)

    def _is_wanted(
        self, key: str, bucket: Bucket, find_manifest: Callable[[], Manifest | None]
    ) -> bool:
        """Return whether a key, or the manifest, differs from the ledger.

        The manifest is found only if the key differs, because it may be large.
        """
        params, known = self.source.params, self.known.get(key)
        if key != params.manifest:
            listed = next(bucket.pages(key), [])
            if not differs_at(key, known, listed, params.filter):
                return False
        if not params.manifest:
            return True
        manifest = find_manifest()
        if read_as(params, manifest) != self.read_as:
            return True
        select = replace(params.filter, manifest=manifest)
        return key != params.manifest and differs_at(key, known, listed, select)


def select_keys(
    candidates: Candidates, batches: Iterable[QueueBatch], backlog: Backlog, tick: Tick
) -> dict[str, KeyProbe]:
    """Return the probes of the connections that may get a run; keep the others' events."""
    batches, earlier, backlog.events = list(batches), backlog.events, {}
    probes = {}
    for name, status in candidates.statuses.items():
        if source := status.connection.source:
            events = [*earlier.get(name, ()), *_events_for(source, batches)]
            probe = KeyProbe.of(status, source, events)
            if probe.events:
                probes[name] = probe
    admitted = tick.admit(candidates, probes, "tasks")
    for name in probes.keys() - set(admitted):
        backlog.keep(name, probes.pop(name).events)
    return probes


def _events_for(source: Source, batches: Sequence[QueueBatch]) -> list[BucketEvent]:
    """Return the events about a source's bucket that came through its own queue."""
    queue, bucket = source.params.notifications, source.path
    own = [batch for batch in batches if batch.queue.address == queue]
    return [event for batch in own for event in batch.events if event.bucket == bucket]


def compare_keys(
    probes: Mapping[str, KeyProbe],
    open_bucket: Callable[[Source], Bucket],
    backlog: Backlog,
    pool: ProbePool,
    tick: Tick,
) -> None:
    """Run the probes; request ``load_tasks`` of connections with a difference."""

    def probe_of(name: str) -> Probe:
        return partial(probes[name].run, open_bucket)

    names = deque(rotate(sorted(probes), backlog.first_bucket))
    for name, result in pool.run_round_robin(names, probe_of, tick.deadline):
        tick.record(name, result, "load_tasks")
        if not result.wanted and not result.reason:
            # A late result is about the events of an earlier tick.
            backlog.keep(name, probes[name].events if result.is_late else result.value)
    backlog.first_bucket = names[0] if names else ""
    for name in names:
        backlog.keep(name, probes[name].events)

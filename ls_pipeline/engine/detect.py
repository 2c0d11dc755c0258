"""Whether a connection has work to do: sensors ask, and runs decide by the same rules.

Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ls_pipeline.domain.completions import belongs_to
from ls_pipeline.domain.diff import WORK
from ls_pipeline.domain.exports import completion_key
from ls_pipeline.domain.listing_ranges import diff_ranges
from ls_pipeline.domain.moments import earlier
from ls_pipeline.engine.local_mirror import mirror_is_stale
from ls_pipeline.engine.manifest import manifest_of, read_as
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.ledger.health import is_waiting
from ls_pipeline.resources.ledger.records import OF_TASKS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from ls_pipeline.domain.completions import TaskState
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import LabelingApp
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.resources.ledger.records import Exported, SnapshotState
    from ls_pipeline.resources.ledger.status import ConnectionStatus
    from ls_pipeline.settings.model import Source, Target

OVERLAP = timedelta(minutes=2)
"""How far a poll reaches back: a write in progress during one poll shows up only in the next."""

STATES_PER_QUERY = 1000


class SourceScan(NamedTuple):
    """Whether a source differs from the ledger, and the key that an unfinished scan reached."""

    changed: bool = False
    reached: str = ""
    """Empty if the scan is complete."""
    objects: int = 0
    """How many objects differ, at least: those of the first range that has any."""


def scan_source(
    connection_ledger: ConnectionLedger,
    source: Source,
    bucket: Bucket,
    after: str = "",
    stop: Callable[[], bool] = lambda: False,
) -> SourceScan:
    """Compare a source with the ledger, from the key ``after`` to the first difference.

    ``stop`` ends the scan early; it is called between ranges of keys.
    """
    params = source.params
    if connection_ledger.intents.is_look_due(*OF_TASKS) or mirror_is_stale(
        connection_ledger, source
    ):
        return SourceScan(changed=True)
    if connection_ledger.objects.retryable(params.reading):
        return SourceScan(changed=True)
    manifest = manifest_of(bucket, params)
    if connection_ledger.sidecars.read_as() != read_as(params, manifest):
        return SourceScan(changed=True)
    select = replace(params.filter, manifest=manifest)
    known = partial(connection_ledger.objects.known_pages, select.folder)
    boundaries = connection_ledger.objects.range_boundaries(select, after)
    ranges = bucket.ranges(select.folder, after, boundaries)
    for range_diff in diff_ranges(known, ranges, select, after):
        if objects := sum(difference.change in WORK for difference in range_diff.differences):
            return SourceScan(changed=True, objects=objects)
        if stop():
            return SourceScan(reached=range_diff.through)
    return SourceScan()


@dataclass(frozen=True, slots=True)
class AnnotationCounts:
    """The number of annotations in each project."""

    by_project: Mapping[int, int]
    now: str = ""
    """A Label Studio time before they were counted; empty if unknown."""
    is_late: bool = False
    """They were requested in an earlier tick, and runs may have ended since."""

    def is_ahead(self, moment: str) -> bool:
        """Return whether a Label Studio time is in the future, because its clock was set back."""
        if self.is_late or not self.now or not moment:
            return False
        return earlier(moment, OVERLAP) > self.now

    def total(self, project_ids: Iterable[int]) -> int | None:
        """Count the annotations in some projects, without those of deleted tasks.

        None if a project was deleted: its run reports that, and retries less and less often.
        """
        counts = [self.by_project.get(number) for number in project_ids]
        return None if None in counts else sum(filter(None, counts))


def count_annotations(app: LabelingApp, project_ids: Sequence[int]) -> AnnotationCounts:
    """Ask Label Studio for its time, and then for the annotations in each project."""
    now = earlier(app.now(), OVERLAP)
    return AnnotationCounts(app.count_annotations(project_ids), now)


def labels_changed(
    status: ConnectionStatus, target: Target, app: LabelingApp, since: str, counts: AnnotationCounts
) -> bool:
    """Return whether an export has work: annotations differ, or the local copy is stale.

    Compares only tasks that changed at or after the Label Studio time ``since``.
    """
    # An export corrects a time in the ledger that is in the future.
    if counts.is_ahead(status.polled_to) or mirror_is_stale(status.ledger, target):
        return True
    if status.ledger.intents.is_look_due(Kind.WRITE):
        return True
    labeled = counts.total(status.project_ids)
    if labeled != status.annotations:
        return True
    since = "" if counts.is_ahead(since) else since
    projects = Projects(status.ledger, app)
    return bool(labeled) and has_changed_task(status.ledger, projects, target, since)


def has_changed_task(
    connection_ledger: ConnectionLedger, projects: Projects, target: Target, since: str
) -> bool:
    """Return whether a task that changed at or after ``since`` must be exported."""
    states = projects.task_states(since)
    while page := list(islice(states, STATES_PER_QUERY)):
        exported = connection_ledger.exports.last_written([state.id for state in page])
        if select_changed(page, exported, connection_ledger.name, target):
            return True
    return False


def select_changed(
    states: Iterable[TaskState],
    exported: Mapping[int, Exported],
    name: str,
    target: Target,
    uncounted: Container[int] = (),
) -> list[int]:
    """Select the tasks to read in full: changed since their export, and annotated then or now.

    ``uncounted`` are tasks whose annotations Label Studio does not count.
    """
    selected = []
    for state in states:
        last = exported.get(state.id)
        key = completion_key(target.params.prefix, state.id)
        if not belongs_to(name, state.origin) or target.params.filter.rejected_by(key):
            continue
        if last and (last.updated_at, last.uri) == (state.updated_at, target.uri(key)):
            continue
        is_annotated = state.annotations or state.id in uncounted
        if is_annotated or (last and last.annotations):
            selected.append(state.id)
    return selected


def wants_snapshot(status: ConnectionStatus, now: float) -> bool:
    """Return whether a run should make a snapshot of a connection, or finish one that failed."""
    if status.refusal:
        return False
    connection = status.connection
    if connection.target is None or not connection.enabled or status.held_by:
        return False
    health = status.health("training_data")
    if is_waiting(health, now):
        return False
    # A step after the snapshot that failed, such as a conversion, must run although no
    # completion changed.
    return health.failures > 0 or snapshot_is_due(status.snapshot, connection.target, now)


def snapshot_is_due(state: SnapshotState, target: Target, now: float) -> bool:
    """Return whether completions changed, and the target's interval or schedule has passed."""
    if state.changes == state.snapshot_changes:
        return False
    last = state.snapshot_at
    if cron := target.params.snapshot_cron:
        from croniter import CroniterBadDateError, croniter

        if not last:
            return True
        schedule = croniter(cron, datetime.fromtimestamp(last, timezone.utc))
        try:
            return bool(schedule.get_next(datetime).timestamp() <= now)
        except CroniterBadDateError:  # no later time matches
            return False
    return now >= last + timedelta(minutes=target.params.snapshot_minutes).total_seconds()

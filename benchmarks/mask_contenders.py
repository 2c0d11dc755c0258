"""Brush masks: exported, made a snapshot, and converted, each in a process of its own.

Label Studio is not measured, so `MaskApp` takes its place: it makes its tasks when they are read.
"""

from __future__ import annotations

import json
import random
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import BUCKET, Result, new_connection, open_bucket
from ls_pipeline.domain.batches import sized_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ls_pipeline.domain.completions import Completion, RecentChanges, TaskState
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.labeling_app import Mark, Project
    from ls_pipeline.resources.ledger.connection import ConnectionLedger, HeldConnection

MASK_CONFIG = """<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">
<Label value="road"/><Label value="sky"/></BrushLabels></View>"""

CREATED = "2026-01-01T00:00:00.000000Z"
BYTES_PER_NUMBER = 3.57
"""Of JSON, for a number between 0 and 255 and its comma."""


class MaskApp:
    """As much of a `LabelingApp` as exports and snapshots use; each task has one mask."""

    def __init__(
        self, marks_file: Path, tasks: int, mask_bytes: int, large: int, large_bytes: int
    ) -> None:
        self.ids = range(1, tasks + large + 1)
        self.first_large, self.mask_bytes, self.large_bytes = tasks, mask_bytes, large_bytes
        self.marks_file = marks_file

    def project(self, project_id: int) -> Project:
        from ls_pipeline.resources.labeling_app import Project

        return Project(project_id, "Masks", MASK_CONFIG, len(self.ids), "", CREATED)

    def create_project(self, _title: str, _label_config: str) -> Project:
        return self.project(1)

    def projects_with_prefix(self, _prefix: str) -> Iterator[Project]:
        yield self.project(1)

    def existing_projects(self, project_ids: Sequence[int]) -> dict[int, Project]:
        return {project_id: self.project(project_id) for project_id in project_ids}

    def task_origins_above(self, _project_id: int, _task_id: int) -> Iterator[Any]:
        return iter(())

    def task_states(self, _project_id: int, _since: str = "") -> Iterator[TaskState]:
        from ls_pipeline.domain.completions import TaskState

        return (TaskState(task_id, CREATED, 1) for task_id in self.ids)

    def uncounted_tasks(self, _project_id: int, _since: str = "") -> list[int]:
        return []

    def recent_changes(self, _project_id: int, since: str) -> RecentChanges:
        from ls_pipeline.domain.completions import RecentChanges

        return RecentChanges(since)

    def now(self) -> str:
        return CREATED

    def count_annotated(self, _project_id: int) -> int:
        return len(self.ids)

    def count_annotations(self, project_ids: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(project_ids, len(self.ids))

    def version(self) -> str:
        return "1.23.2"

    def completions(self, _project_id: int, task_ids: Sequence[int]) -> Iterator[Completion]:
        from ls_pipeline.domain.batches import batches
        from ls_pipeline.domain.completions import parse_completion
        from ls_pipeline.resources.label_studio.app import COMPLETIONS_PAGE
        from ls_pipeline.resources.label_studio.data_manager import LARGEST_PAGE

        for batch in batches(task_ids, COMPLETIONS_PAGE):
            tasks = map(self._task, batch)
            for page in sized_batches(tasks, len, LARGEST_PAGE):
                body = b'{"tasks":[' + b",".join(page) + b"]}"
                yield from map(parse_completion, json.loads(body)["tasks"])

    def _task(self, task_id: int) -> bytes:
        size = self.mask_bytes if task_id <= self.first_large else self.large_bytes
        rle = list(random.Random(task_id).randbytes(int(size / BYTES_PER_NUMBER)))  # noqa: S311
        value = {"format": "rle", "rle": rle, "brushlabels": ["road"]}
        result = {"id": "r", "type": "brushlabels", "from_name": "b", "to_name": "i"}
        whole = {**result, "original_width": 9, "original_height": 9, "value": value}
        annotation = {"id": task_id, "was_cancelled": False, "completed_by": 1, "result": [whole]}
        times = {"created_at": CREATED, "updated_at": CREATED}
        data = {"image": f"s3://{BUCKET}/{task_id}.png"}
        task = {"id": task_id, "data": data, "annotations": [annotation], "project": 1, **times}
        return json.dumps(task).encode()

    # -- marks ------------------------------------------------------------------------------

    def marks(self) -> list[Mark]:
        from ls_pipeline.resources.labeling_app import Mark

        text = self.marks_file.read_text() if self.marks_file.exists() else "[]"
        return [Mark(*fields) for fields in json.loads(text)]

    def add_mark(self, project_id: int, ledger: str, connection: str, generation: int) -> Mark:
        from ls_pipeline.resources.labeling_app import Mark

        marks = self.marks()
        mark = Mark(len(marks) + 1, project_id, ledger, connection, generation)
        self._store([*marks, mark])
        return mark

    def raise_mark(self, mark: Mark, generation: int) -> Mark:
        raised = replace(mark, generation=generation)
        self._store([raised if other.id == mark.id else other for other in self.marks()])
        return raised

    def remove_mark(self, mark: Mark) -> None:
        self._store([other for other in self.marks() if other.id != mark.id])

    def _store(self, marks: Sequence[Mark]) -> None:
        self.marks_file.write_text(json.dumps([astuple(mark) for mark in marks]))


class Masks:
    """A connection with masks; the ledger is at a URL, and shared by several processes."""

    def __init__(self, url: str, ledger: str, sizes: Sequence[int]) -> None:
        marks_file = Path(ledger.partition("///")[2]).with_suffix(".marks")
        self.app, self.bucket = MaskApp(marks_file, *sizes), open_bucket(url)
        self.prefix = f"masks/{marks_file.stem}"
        params = {"endpoint_url": url, "prefix": self.prefix}
        self.target = {"type": "s3-completions", "path": BUCKET, "params": params}
        self.connection_ledger = self._connection(ledger)

    def _connection(self, ledger: str) -> ConnectionLedger:
        from ls_pipeline.resources.ledger.ledger import Ledger

        opened = Ledger(ledger)
        names = opened.names()
        return (
            opened.connection_ledger(names[0])
            if names
            else new_connection(None, self.target, ledger)
        )

    def run(self, held: HeldConnection) -> RunContext:
        from ls_pipeline.engine.context import RunContext
        from ls_pipeline.resources.progress import SilentProgress

        app: Any = self.app
        return RunContext(held, held.settings.in_force(), self.bucket, app, SilentProgress())


def export_masks(url: str, ledger: str, sizes: Sequence[int]) -> Callable[[], Result]:
    """Export all masks."""
    from ls_pipeline.engine.export import export_completions

    masks = Masks(url, ledger, sizes)

    def work() -> Result:
        with masks.connection_ledger.acquire() as held:
            return {"tasks": export_completions(masks.run(held)).written}

    return work


def snapshot_masks(url: str, ledger: str, sizes: Sequence[int]) -> Callable[[], Result]:
    """Make a snapshot of all masks, which were exported."""
    from ls_pipeline.engine.snapshot import write_snapshot

    masks = Masks(url, ledger, sizes)

    def work() -> Result:
        with masks.connection_ledger.acquire() as held:
            newest = write_snapshot(masks.run(held)).newest
        return {"tasks": newest.tally.tasks, "parts": len(newest.parts), "bytes": newest.bytes}

    return work


def convert_masks(
    url: str, ledger: str, sizes: Sequence[int], formats: Sequence[str]
) -> Callable[[], Result]:
    """Convert the newest snapshot of all masks."""
    from ls_pipeline.engine.convert import convert_snapshot
    from ls_pipeline.resources.snapshots import Snapshots

    masks = Masks(url, ledger, sizes)
    snapshots = Snapshots(masks.bucket, masks.prefix)

    def work() -> Result:
        latest, _ = snapshots.latest()
        if latest is None:
            raise ValueError("there is no snapshot")
        manifest = snapshots.manifest(latest.snapshot)
        return dict(convert_snapshot(masks.bucket, snapshots, manifest, formats))

    return work

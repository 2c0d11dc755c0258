"""Random changes to a deployment, and how long each takes to arrive."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.deployment import BIG
from benchmarks.fixtures import annotation_result, label_studio_client
from benchmarks.resource_samples import write_rows
from benchmarks.synthetic_s3 import NumberedKeys, etag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.deployment import Shape
    from ls_pipeline.resources.ledger.ledger import Ledger

BIG_SHARE = 0.1
"""The share of objects that are put into the big bucket."""

NEW_SHARE = 0.7
"""The share of objects with a new key; the others replace an object."""


@dataclass
class Change:
    """An object or a label, and the seconds until it arrived; ``age`` is None until then."""

    kind: str
    connection: str
    happened: float
    has_arrived: Callable[[], bool] = field(repr=False)
    age: float | None = None


class Traffic:
    """Changes at random moments: objects that are put, and tasks that are labeled.

    ``pauses`` are the mean seconds between two objects, and between two labels. All connections are
    equally likely, except that one object in ten goes to the big one.
    """

    def __init__(self, ledger: Ledger, shape: Shape, url: str, pauses: tuple[float, float]) -> None:
        self.ledger, self.shape, self.url = ledger, shape, url
        self.chance = random.Random(7)  # noqa: S311
        self.client = label_studio_client()
        self.changes: list[Change] = []
        self._unlabeled = dict(self._unlabeled_tasks())
        self._kinds = list(zip((self._put_object, self._label_task), pauses, strict=True))
        self._due = [0.0, 0.0]

    def make_due_changes(self) -> None:
        """Make the changes that are due. The first of each kind is due immediately."""
        for index, (make_change, pause) in enumerate(self._kinds):
            if time.time() >= self._due[index]:
                self.changes.append(make_change())
                self._due[index] = time.time() + self.chance.expovariate(1 / pause)

    def check_arrivals(self) -> None:
        """Set the age of each change that has arrived by now."""
        for change in self.pending:
            if change.has_arrived():
                change.age = time.time() - change.happened

    def write(self, file: Path) -> None:
        """Write all changes to a CSV file."""
        write_rows(
            file,
            (
                [change.kind, change.connection, change.happened, change.age]
                for change in self.changes
            ),
        )

    @property
    def pending(self) -> list[Change]:
        return [change for change in self.changes if change.age is None]

    def _put_object(self) -> Change:
        """Put a new object, or replace one."""
        small = self.chance.choice(self.shape.small)
        name = BIG if self.chance.random() < BIG_SHARE else small
        keys = NumberedKeys(self.shape.big if name == BIG else self.shape.objects)
        key = self.chance.choice(keys)
        if self.chance.random() < NEW_SHARE:
            key = key.replace(".json", f"-{len(self.changes)}.json")
        body = json.dumps({"text": f"change {len(self.changes)}"}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/{name}/{key}", body, method="PUT"
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - as above
        connection_ledger = self.ledger.connection_ledger(name)

        def has_arrived() -> bool:
            before = key[:-1]  # no other key sorts between the two
            known = next(connection_ledger.objects.known(after=before))
            return (known.key, known.version) == (key, etag_of(body))

        return Change("object", name, time.time(), has_arrived)

    def _label_task(self) -> Change:
        """Label a task that has no label yet."""
        name = self.chance.choice([name for name, tasks in self._unlabeled.items() if tasks])
        tasks = self._unlabeled[name]
        task = tasks.pop(self.chance.randrange(len(tasks)))
        body = {"result": [annotation_result("any")]}
        self.client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()
        connection_ledger = self.ledger.connection_ledger(name)
        return Change(
            "label", name, time.time(), lambda: bool(connection_ledger.exports.last_written([task]))
        )

    def _unlabeled_tasks(self) -> Iterator[tuple[str, list[int]]]:
        keys = {*NumberedKeys(self.shape.objects)[:]}
        for name in self.shape.small:
            pages = self.ledger.connection_ledger(name).objects.all_rows()
            yield name, [row.task_id for page in pages for row in page if row.key in keys]

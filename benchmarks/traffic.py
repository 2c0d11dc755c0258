"""What goes on in the world of a deployment, and how old each change is when it has arrived."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.deployment import BIG
from benchmarks.load_contenders import client_of_label_studio, label
from benchmarks.resource_samples import rows
from benchmarks.synthetic_s3 import Numbered, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.deployment import Shape
    from ls_pipeline.resources.ledger.ledger import Ledger


@dataclass
class Change:
    """Something that happened, and whether it has arrived; ``age`` is None until it has."""

    what: str
    connection: str
    happened: float
    has_arrived: Callable[[], bool] = field(repr=False)
    age: float | None = None


class World:
    """Changes at random moments: objects that are put, and tasks that are labeled.

    ``pauses`` are the mean seconds between two of each kind. One object in ten is the big
    connection's, else a connection is as likely as another.
    """

    def __init__(self, ledger: Ledger, shape: Shape, url: str, pauses: tuple[float, float]) -> None:
        self.ledger, self.shape, self.url = ledger, shape, url
        self.chance = random.Random(7)  # noqa: S311
        self.labels = client_of_label_studio()
        self.changes: list[Change] = []
        self._tasks = dict(self._unlabeled())
        self._kinds = list(zip((self._put, self._label), pauses, strict=True))
        self._due = [0.0, 0.0]

    def happen(self) -> None:
        """Do what is due: the first of each kind at once."""
        for at, (happen, pause) in enumerate(self._kinds):
            if time.time() >= self._due[at]:
                self.changes.append(happen())
                self._due[at] = time.time() + self.chance.expovariate(1 / pause)

    def look(self) -> None:
        """Look what has arrived."""
        for change in self.waiting:
            if change.has_arrived():
                change.age = time.time() - change.happened

    def write(self, file: Path) -> None:
        """Write all changes to a file."""
        rows(file, [[one.what, one.connection, one.happened, one.age] for one in self.changes])

    @property
    def waiting(self) -> list[Change]:
        return [change for change in self.changes if change.age is None]

    def _put(self) -> Change:
        """Put a new object, or another over one that is there."""
        small = self.chance.choice(self.shape.small)
        name = BIG if self.chance.random() < 0.1 else small  # noqa: PLR2004
        there = Numbered(self.shape.big if name == BIG else self.shape.objects)
        key = self.chance.choice(there)
        if self.chance.random() < 0.7:  # noqa: PLR2004
            key = key.replace(".json", f"-{len(self.changes)}.json")
        body = json.dumps({"text": f"change {len(self.changes)}"}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/{name}/{key}", body, method="PUT"
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - as above
        account = self.ledger.account(name)

        def has_arrived() -> bool:
            before = key[:-1]  # no other key lies between
            known = next(account.known(after=before))
            return (known.key, known.version) == (key, version(body))

        return Change("object", name, time.time(), has_arrived)

    def _label(self) -> Change:
        """Label a task that nobody has labeled yet."""
        name = self.chance.choice([one for one, tasks in self._tasks.items() if tasks])
        tasks = self._tasks[name]
        task = tasks.pop(self.chance.randrange(len(tasks)))
        url = f"/api/tasks/{task}/annotations/"
        self.labels.post(url, json={"result": [label("any")]}).raise_for_status()
        account = self.ledger.account(name)
        return Change("label", name, time.time(), lambda: bool(account.exported([task])))

    def _unlabeled(self) -> Iterator[tuple[str, list[int]]]:
        for name in self.shape.small:
            rows = self.ledger.account(name).rows_of_all(Numbered(self.shape.objects)[:])
            yield name, [row.task_id for found in rows.values() for row in found.values()]

"""People label tasks at the moment at which a run deletes or updates them."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import unquote_plus

import httpx
import pytest

from tests.bench import RESULT
from tests.crash.test_faults import run_in_process
from tests.crash.world import World
from tests.people import check_files

pytestmark = pytest.mark.server

AHEAD = (0, 2, 5, 10)
"""How many tasks each labeler is ahead of the run."""


CHANGES = ("DELETE /api/tasks/", "PATCH /api/tasks/")


@dataclass(frozen=True)
class Label:
    task_id: int
    answered: float
    status: int


class Labelers:
    """Threads that label tasks which a run is about to change, one task each at a time."""

    def __init__(self, task_ids, log):
        self.task_ids, self.log = task_ids, log
        self.labels, self.done = [], threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(n,)) for n in AHEAD]
        self.url = os.environ["LABEL_STUDIO_URL"]
        self.headers = {"Authorization": f"Token {os.environ['LABEL_STUDIO_API_KEY']}"}

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join()

    def _work(self, ahead):
        """Label tasks some places ahead of the run."""
        read, changed, last = 0, 0, -1
        while not self.done.wait(0.005):
            new = self.log[read:]
            read += len(new)
            changed += sum(request.startswith(CHANGES) for _, _, request in new)
            place = changed + ahead
            if changed and last < place < len(self.task_ids):
                last = place
                self._label(self.task_ids[place])

    def _label(self, task_id):
        url = f"{self.url}/api/tasks/{task_id}/annotations/"
        answer = httpx.post(url, json={"result": RESULT}, headers=self.headers, timeout=60)
        self.labels.append(Label(task_id, time.monotonic(), answer.status_code))


def looks(log, task_id):
    """Return when the run began to look at a task that it changed, each time."""
    wanted = re.compile(rf'"in_list", "type": "Number", "value": \[{task_id}\]')
    return [came for came, _, request in log if wanted.search(unquote_plus(request))]


@pytest.fixture
def labeled_during(live_environment, between):
    """Return a function that replaces an object while people label its tasks."""

    def run(before, after):
        world = World(run_in_process, create_local_copy=False)
        others = {"b.json": [f"b {row}" for row in range(len(before) + 10)]}
        world.replace({"a.json": before} | others)
        assert world.run() == ""
        world.replace({"a.json": after} | others if after else others)
        server, ids = between(os.environ["LABEL_STUDIO_URL"]), world.task_ids
        task_ids = [ids["a.json", row] for row in range(len(before))]
        with live_environment.context() as through, Labelers(task_ids, server.log) as labelers:
            through.setenv("LABEL_STUDIO_URL", server.url)
            assert world.run() == ""
        return world, server.log, [label for label in labelers.labels if label.status == 201]

    return run


@pytest.fixture
def rows(kills):
    """Return how many tasks a run changes while people label some of them."""
    return min(20 * kills, 600)


def test_labels_saved_before_a_run_looks_are_not_deleted(labeled_during, rows, capsys):
    world, log, labels = labeled_during([f"old {row}" for row in range(rows)], [])
    tasks = world.tasks
    lost = [label for label in labels if label.task_id not in tasks]
    changes = {request: done for _, done, request in log if request.startswith(CHANGES)}
    windows = sorted(
        done - looks(log, int(request.split("/")[3]))[-1] for request, done in changes.items()
    )
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(labels)} labels were saved while {len(windows)} tasks were deleted; "
            f"{len(lost)} of them between a look and its deletion, and are lost. From a look to "
            f"the end of its deletion: {windows[len(windows) // 2]:.3f} s in the middle, "
            f"{windows[-1]:.3f} s at most.\n"
        )
    assert len(labels) > len(lost)
    for label in lost:
        assert label.answered > looks(log, label.task_id)[-1]
    assert world.run() == ""
    check_files(world.tasks, world.files)


def test_labels_saved_before_a_run_looks_again_are_of_the_data_that_people_saw(
    labeled_during, rows
):
    old, new = [f"old {row}" for row in range(rows)], [f"new {row}" for row in range(rows)]
    world, log, labels = labeled_during(old, new)
    tasks = world.tasks
    assert labels
    for label in labels:
        task = tasks[label.task_id]
        assert task["annotations"]
        if label.answered < looks(log, label.task_id)[-1]:
            assert task["data"]["text"] in old
    unlabeled = {task["data"]["text"] for task in tasks.values() if not task["annotations"]}
    assert not (unlabeled & set(old))

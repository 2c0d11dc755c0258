"""A connection on real servers, in a world that people change; and what must be true of it."""

from __future__ import annotations

import json
import re

import pytest

from ls_pipeline.domain.errors import IdentityError
from ls_pipeline.engine.export import export_completions
from ls_pipeline.engine.load import load_tasks
from ls_pipeline.engine.snapshot import write_snapshot
from tests.bench import RESULT
from tests.crash.scene import Scene
from tests.crash.victim import run_over
from tests.e2e.conftest import keys
from tests.people import People, numbered, place

WORKS = (("source", load_tasks), ("target", export_completions), ("target", write_snapshot))


class World(Scene):
    """A scene that knows what people did, and that asks Label Studio, not the ledger."""

    def __init__(self, run_connection, cloud="s3", **params):
        super().__init__(run_connection, cloud, **params)
        self.people = People()

    # -- what happens -----------------------------------------------------------------------

    def replace(self, objects):
        """Have the bucket hold these objects, (key → texts), and no others."""
        for key in set(keys(self.bucket)) - objects.keys():
            self.bucket.delete(key)
        for key, texts in objects.items():
            self.put(key, *texts)

    def label(self, *task_ids):
        for task_id in task_ids:
            body = {"result": RESULT}
            self.app.api.json("POST", f"api/tasks/{task_id}/annotations/", json=body)
        tasks = self.tasks
        for task_id in task_ids:
            self.people.remember(tasks[task_id])

    def unlabel(self, task_id):
        for annotation in self.tasks[task_id]["annotations"]:
            self.app.api.json("DELETE", f"api/annotations/{annotation['id']}/")
        self.people.remember(self.tasks[task_id])

    def delete(self, *task_ids):
        tasks, texts = self.tasks, self.in_bucket
        for task_id in task_ids:
            self.app.api.json("DELETE", f"api/tasks/{task_id}/")
            self.people.forget(tasks[task_id], texts.get(place(tasks[task_id])))

    def copy(self, *task_ids):
        """Export tasks and import them again, as a person does; return the copies' ids."""
        copies = []
        for project_id in self.project_ids:
            params = {"exportType": "JSON", "ids[]": [*task_ids], "download_all_tasks": "true"}
            path = f"api/projects/{project_id}"
            if exported := self.app.api.json("GET", f"{path}/export", params=params):
                params = {"return_task_ids": "true"}
                answer = self.app.api.json("POST", f"{path}/import", json=exported, params=params)
                copies += answer["task_ids"]
        self.people.copies |= {task_id: self.tasks[task_id] for task_id in copies}
        return copies

    def stops(self, works=WORKS):
        """Assert that loads, exports and snapshots stop, and return their sentences."""
        return [self._stops(side, work) for side, work in works]

    def _stops(self, side, work):
        with self.ledger.acquire(self.name) as held, pytest.raises(IdentityError) as error:
            work(run_over(held, side))
        return str(error.value)

    # -- what is true -----------------------------------------------------------------------

    @property
    def project_ids(self):
        title = re.compile(re.escape(self.name) + r"( \(\d+\))?")
        projects = self.app.projects_with_prefix(self.name)
        return [project.id for project in projects if title.fullmatch(project.title)]

    @property
    def tasks(self):
        """Every task in the connection's projects, by id."""
        return {
            task.task_id: task.document
            for project_id in self.project_ids
            for task in self.app.completions(
                project_id, [state.id for state in self.app.task_states(project_id)]
            )
        }

    @property
    def task_ids(self):
        """(key, row) → the id of our task."""
        tasks = self.tasks
        return {place(tasks[task_id]): task_id for task_id in tasks.keys() - self.people.copies}

    @property
    def in_bucket(self):
        """(key, row) → text."""
        objects = self.connection_ledger.objects
        texts = {
            key: [content["text"] for content in json.loads(self.bucket.get(key))]
            for key in keys(self.bucket)
        }
        return numbered(texts, {key: objects.rows_of(key) for key in texts})

    @property
    def files(self):
        """The documents in the target, by task id."""
        names = [key for key in keys(self.labels) if re.fullmatch(r"\d+\.json", key)]
        return {int(key.removesuffix(".json")): json.loads(self.labels.get(key)) for key in names}

    @property
    def target_objects(self):
        """Everything in the target, byte for byte."""
        return {key: self.labels.get(key) for key in keys(self.labels)}

    def check(self, *, certain=True):
        tasks = self.tasks
        self.people.check(tasks, self.in_bucket, self.files, certain=certain)
        self.agrees_with_snapshot([task for task in tasks.values() if task["annotations"]])

"""A labeling app in memory: honest, and held to the same suite as Label Studio."""

from __future__ import annotations

import copy
import itertools
from datetime import datetime, timezone

import httpx

from ls_pipeline.domain.completions import RecentChanges, TaskState, parse_completion
from ls_pipeline.domain.errors import ProjectNotFoundError, TasksRefusedError
from ls_pipeline.domain.tasks import data_keys, origin_of
from ls_pipeline.resources.labeling_app import SECRET_HEADER, Project


class MemoryLabelingApp:
    def __init__(self):
        self.projects = {}
        self.tasks = {}
        self.storages = {}
        self.webhooks = {}
        self.reuses_ids = False
        """True: it numbers tasks as Label Studio does on SQLite."""
        self.counts = True
        """False: it has lost what keeps its counts of annotations up to date."""
        self._numbers = itertools.count(1)

    # -- LabelingApp ----------------------------------------------------------------------

    def project(self, project_id):
        if project_id not in self.projects:
            raise ProjectNotFoundError(f"there is no project {project_id}")
        title, label_config = self.projects[project_id]
        count = len(self._of(project_id))
        return Project(project_id, title, label_config, count, f"memory:{project_id}")

    def find_or_create_project(self, title, label_config):
        return self.find_project(title) or self._make(title, label_config or "<View></View>")

    def find_or_create_project_like(self, project_id, title):
        return self.find_project(title) or self._make(title, self.project(project_id).label_config)

    def projects_with_prefix(self, title):
        for number, (name, _) in sorted(self.projects.items()):
            if name.startswith(title):
                yield self.project(number)

    def highest_task_id(self, project_id):
        return max((task["id"] for task in self._of(project_id)), default=0)

    def import_tasks(self, project_id, tasks):
        required = data_keys(self.project(project_id).label_config)
        reasons = {
            n: "a key is missing"
            for n, task in enumerate(tasks)
            if not all(key in task["data"] for key in required)
        }
        if reasons or not tasks:
            raise TasksRefusedError("refused", reasons)
        return [self._store(project_id, task) for task in tasks]

    def task_origins_above(self, project_id, task_id):
        for task in self._of(project_id):
            if task["id"] > task_id and (origin := origin_of(task["meta"])):
                yield task["id"], origin

    def update_task(self, task_id, body):
        self.tasks[task_id].update(copy.deepcopy(dict(body)))
        self._touch(task_id)

    def version(self):
        return "1.23.2"

    def delete_task(self, task_id):
        self.tasks.pop(task_id, None)

    def task_states(self, project_id, since=""):
        for task in self._of(project_id):
            if task["updated_at"] >= since:
                yield TaskState(
                    task["id"],
                    task["updated_at"],
                    task["counted"],
                    origin_of(task["meta"]),
                )

    def uncounted_tasks(self, project_id, since=""):
        return [
            task["id"]
            for task in self._of(project_id)
            if task["updated_at"] >= since and task["annotations"] and not task["counted"]
        ]

    def recent_changes(self, project_id, since):
        return RecentChanges.among(self.task_states(project_id), since)

    def now(self):
        return _moment().replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def completions(self, project_id, task_ids):
        for task in self._of(project_id):
            if task["id"] in task_ids:
                yield parse_completion(copy.deepcopy(task))

    def count_annotated(self, project_id):
        return sum(bool(task["annotations"]) for task in self._of(project_id))

    def count_annotations(self, project_ids):
        return {
            number: sum(len(task["annotations"]) for task in self._of(number))
            for number in project_ids
            if number in self.projects
        }

    def register_storage(self, project_id, location):
        where = project_id, location.scheme, location.bucket
        self.storages[where] = (location.endpoint_url, location.region)

    def register_webhook(self, project_id, address, secret):
        self.webhooks[project_id, address] = secret

    # -- what annotators do ---------------------------------------------------------------

    def annotate(self, task_id, result):
        number = next(self._numbers)
        annotation = {"id": number, "result": result, "was_cancelled": False, "completed_by": 1}
        self.tasks[task_id]["annotations"].append(annotation)
        self._touch(task_id)
        self._call_back(task_id, "ANNOTATION_CREATED")
        return number

    def edit(self, task_id, result):
        self.tasks[task_id]["annotations"][0]["result"] = result
        self._touch(task_id)

    def draft(self, task_id, result):
        self.tasks[task_id].setdefault("drafts", []).append({"result": result})

    def lose_count(self, task_id):
        self.tasks[task_id]["counted"] = 0

    def delete_annotation(self, annotation_id):
        for task in self.tasks.values():
            left = [one for one in task["annotations"] if one["id"] != annotation_id]
            if len(left) < len(task["annotations"]):
                task["annotations"] = left
                self._touch(task["id"])
                self._call_back(task["id"], "ANNOTATIONS_DELETED")

    def _call_back(self, task_id, action):
        project_id = self.tasks[task_id]["project"]
        for (project, address), secret in self.webhooks.items():
            if project == project_id:
                httpx.post(address, json={"action": action}, headers={SECRET_HEADER: secret})

    def find_project(self, title):
        found = self.projects_with_prefix(title)
        return next((one for one in found if one.title == title), None)

    def _make(self, title, label_config):
        number = max(self.projects, default=0) + 1
        self.projects[number] = (title, label_config)
        return self.project(number)

    def _of(self, project_id):
        self.project_exists(project_id)
        return [task for _, task in sorted(self.tasks.items()) if task["project"] == project_id]

    def project_exists(self, project_id):
        if project_id not in self.projects:
            raise ProjectNotFoundError(f"there is no project {project_id}")

    def _store(self, project_id, body):
        number = max(self.tasks, default=0) + 1 if self.reuses_ids else next(self._numbers)
        annotations = [
            {"was_cancelled": False, **one, "id": next(self._numbers)}
            for one in body.get("annotations", ())
        ]
        self.tasks[number] = {
            "id": number,
            "project": project_id,
            "data": copy.deepcopy(body["data"]),
            "meta": copy.deepcopy(body.get("meta", {})),
            "predictions": list(body.get("predictions", ())),
            "annotations": annotations,
            "counted": len(annotations),
        }
        self._touch(number)
        return number

    def _touch(self, task_id):
        if self.counts:
            self.tasks[task_id]["counted"] = len(self.tasks[task_id]["annotations"])
        self.tasks[task_id]["updated_at"] = _moment().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment():
    return datetime.now(timezone.utc)

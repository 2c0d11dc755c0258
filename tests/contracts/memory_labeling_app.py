"""A labeling app in memory, held to the same contract suite as Label Studio."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import httpx

from ls_pipeline.domain.completions import RecentChanges, TaskState, parse_completion
from ls_pipeline.domain.errors import (
    ProjectNotFoundError,
    TaskPartsLostError,
    TasksRefusedError,
)
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.resources.labeling_app import (
    SECRET_HEADER,
    BrowserResponse,
    Mark,
    Project,
    ServerInfo,
)

PARTS = {"annotations", "predictions"}


class MemoryLabelingApp:
    """A `DiagnosableLabelingApp` that also annotates, and has bugs of Label Studio."""

    base_url = public_url = "http://labels"
    repeats_after = 0.0

    def __init__(self):
        self.projects = {}
        self.tasks = {}
        self.storages = {}
        self.webhooks = {}
        self.release = "1.23.2"
        self.browser_response = BrowserResponse(200, "store", cors_allowed=True)
        self.reuses_ids = False
        """Whether a new task gets the id of the newest task if that was deleted, as on SQLite."""
        self.counts = True
        """Whether it keeps its counts of annotations up to date."""
        self.loses_parts = 0
        """How many of the next imports lose their annotations and predictions."""
        self.stores_twice = 0
        """How many of the next imports are stored twice, with the ids of the second time."""
        self._numbers = itertools.count(1)
        self._mark_numbers = itertools.count(1)
        self._prediction_numbers = itertools.count(1)
        self._created_at = {}
        self._marks = {}
        """Marks by id, each with its project's time of creation."""

    # -- projects ---------------------------------------------------------------------------

    def project(self, project_id):
        count = len(self._tasks_of(project_id))
        title, label_config = self.projects[project_id]
        url, created_at = f"memory:{project_id}", self._creation_time(project_id)
        return Project(project_id, title, label_config, count, url, created_at)

    def existing_projects(self, project_ids):
        return {id_: self.project(id_) for id_ in project_ids if id_ in self.projects}

    def find_project(self, title):
        projects = self.projects_with_prefix(title)
        return next((project for project in projects if project.title == title), None)

    def create_project(self, title, label_config):
        return self.find_project(title) or self._create(title, label_config or "<View></View>")

    def create_project_like(self, project_id, title):
        return self.create_project(title, self.project(project_id).label_config)

    def projects_with_prefix(self, prefix):
        for project_id, (title, _) in sorted(self.projects.items()):
            if title.startswith(prefix):
                yield self.project(project_id)

    # -- tasks ------------------------------------------------------------------------------

    def highest_task_id(self, project_id):
        return max((task["id"] for task in self._tasks_of(project_id)), default=0)

    def count_tasks_above(self, project_id, task_id):
        return sum(task["id"] > task_id for task in self._tasks_of(project_id))

    def import_tasks(self, project_id, tasks):
        label_config = LabelConfig(self.project(project_id).label_config)
        errors = (label_config.data_error(task["data"]) for task in tasks)
        reasons = {n: error for n, error in enumerate(errors) if error}
        for n, task in enumerate(tasks):
            annotators = {each.get("completed_by") for each in task.get("annotations", ())}
            if annotators - {None, *self.users().values()}:
                reasons[n] = "an annotator is unknown"
        if reasons or not tasks:
            raise TasksRefusedError("refused", reasons)
        if self.stores_twice:
            self.stores_twice -= 1
            for task in tasks:
                self._store(project_id, task)
        if self.loses_parts and any(task.keys() & PARTS for task in tasks):
            self.loses_parts -= 1
            bare = [{key: task[key] for key in task.keys() - PARTS} for task in tasks]
            lost = [self._store(project_id, task) for task in bare]
            raise TaskPartsLostError("lost", lost)
        return [self._store(project_id, task) for task in tasks]

    def task_origins_above(self, project_id, task_id):
        for task in self._tasks_of(project_id):
            if task["id"] > task_id and (origin := parse_origin(task["meta"])):
                yield task["id"], origin

    def update_task(self, task_id, body):
        if task_id not in self.tasks:
            raise ProjectNotFoundError(f"there is no task {task_id}")
        self.tasks[task_id].update(copy.deepcopy(dict(body)))
        self._touch(task_id)

    def add_prediction(self, task_id, body):
        if task_id not in self.tasks:
            raise TasksRefusedError(f"there is no task {task_id}", {})
        self.predict(task_id, body.get("result"), **{k: body[k] for k in body.keys() - {"result"}})

    def delete_prediction(self, prediction_id):
        for task in self.tasks.values():
            rest = [row for row in task["predictions"] if row["id"] != prediction_id]
            if len(rest) < len(task["predictions"]):
                task["predictions"] = rest
                self._touch(task["id"])

    def delete_task(self, task_id):
        self.tasks.pop(task_id, None)

    def task_states(self, project_id, since=""):
        for task in self._tasks_of(project_id):
            if task["updated_at"] >= since:
                origin = parse_origin(task["meta"])
                yield TaskState(task["id"], task["updated_at"], task["counted"], origin)

    def uncounted_tasks(self, project_id, since=""):
        return [
            task["id"]
            for task in self._tasks_of(project_id)
            if task["updated_at"] >= since and task["annotations"] and not task["counted"]
        ]

    def recent_changes(self, project_id, since):
        return RecentChanges.among(self.task_states(project_id), since)

    def now(self):
        return _timestamp(_now().replace(microsecond=0))

    def completions(self, project_id, task_ids):
        for task in self._tasks_of(project_id):
            if task["id"] in task_ids:
                draft_exists = bool(task.get("drafts"))
                yield parse_completion({**copy.deepcopy(task), "draft_exists": draft_exists})

    def count_annotated(self, project_id):
        return sum(bool(task["annotations"]) for task in self._tasks_of(project_id))

    def count_annotations(self, project_ids):
        return {
            project_id: sum(len(task["annotations"]) for task in self._tasks_of(project_id))
            for project_id in project_ids
            if project_id in self.projects
        }

    # -- storages, webhooks and marks -------------------------------------------------------

    def register_storage(self, project_id, location, *, is_new=False):
        bucket = project_id, location.scheme, location.bucket
        self.storages[bucket] = (location.endpoint_url, location.region)

    def register_webhook(self, project_id, address, secret):
        self.webhooks[project_id, address] = secret

    def has_webhook(self, project_id, address, secret):
        return self.webhooks.get((project_id, address)) == secret

    def marks(self, project_id=0):
        if project_id and project_id not in self.projects:
            raise ProjectNotFoundError(f"there is no project {project_id}")
        return [
            mark
            for _, (mark, created_at) in sorted(self._marks.items())
            if mark.project_id in self.projects
            and project_id in {0, mark.project_id}
            and self._creation_time(mark.project_id) == created_at
        ]

    def add_mark(self, project_id, ledger, connection, generation):
        created_at = self.project(project_id).created_at
        mark = Mark(next(self._mark_numbers), project_id, ledger, connection, generation)
        self._marks[mark.id] = mark, created_at
        return mark

    def raise_mark(self, mark, generation):
        if not self._has(mark):
            raise ProjectNotFoundError(f"there is no mark {mark.id}")
        raised = replace(mark, generation=generation)
        self._marks[mark.id] = raised, self._marks[mark.id][1]
        return raised

    def remove_mark(self, mark):
        if self._has(mark):
            del self._marks[mark.id]

    # -- the server -------------------------------------------------------------------------

    def users(self):
        return {"me@example.com": 1}

    def version(self):
        return self.release

    def server_info(self):
        return ServerInfo(self.version(), "legacy token", "me@example.com")

    def fetch_as_browser(self, _task_id, _uri):
        return self.browser_response

    def import_twice(self, project_id, tasks):
        self.stores_twice += 1
        return self.import_tasks(project_id, tasks)

    # -- what annotators do -----------------------------------------------------------------

    def annotate(self, task_id, result):
        annotation_id = next(self._numbers)
        annotation = {
            "id": annotation_id,
            "result": result,
            "was_cancelled": False,
            "completed_by": 1,
        }
        self.tasks[task_id]["annotations"].append(annotation)
        self._touch(task_id)
        self._call_webhooks(task_id, "ANNOTATION_CREATED")
        return annotation_id

    def predict(self, task_id, result, **more):
        """Add a prediction, as a model does through the API."""
        prediction = self._prediction({"model_version": "", "result": result, **more})
        self.tasks[task_id]["predictions"].append(prediction)
        self._touch(task_id)
        return prediction["id"]

    def edit(self, task_id, result):
        self.tasks[task_id]["annotations"][0]["result"] = result
        self._touch(task_id)

    def draft(self, task_id, result):
        self.tasks[task_id].setdefault("drafts", []).append({"result": result})

    draft_of_another = draft

    def lose_count(self, task_id):
        self.tasks[task_id]["counted"] = 0

    def delete_annotation(self, annotation_id):
        for task in self.tasks.values():
            rest = [row for row in task["annotations"] if row["id"] != annotation_id]
            if len(rest) < len(task["annotations"]):
                task["annotations"] = rest
                self._touch(task["id"])
                self._call_webhooks(task["id"], "ANNOTATIONS_DELETED")

    def delete_project(self, project_id):
        del self.projects[project_id]
        for task in list(self.tasks.values()):
            if task["project"] == project_id:
                del self.tasks[task["id"]]

    # -- inside -----------------------------------------------------------------------------

    def _call_webhooks(self, task_id, action):
        for (project_id, address), secret in self.webhooks.items():
            if project_id == self.tasks[task_id]["project"]:
                httpx.post(address, json={"action": action}, headers={SECRET_HEADER: secret})

    def _create(self, title, label_config):
        project_id = max(self.projects, default=0) + 1
        self.projects[project_id] = (title, label_config)
        self.storages = {key: at for key, at in self.storages.items() if key[0] != project_id}
        self._created_at[project_id] = next(_creation_times)
        return replace(self.project(project_id), is_new=True)

    def _creation_time(self, project_id):
        """Return a project's time of creation, also if a test has put it into ``projects``."""
        return self._created_at.setdefault(project_id, next(_creation_times))

    def _has(self, mark):
        """Return whether this mark is stored, with any generation."""
        stored = next((stored for stored in self.marks() if stored.id == mark.id), None)
        return stored is not None and replace(stored, generation=mark.generation) == mark

    def _tasks_of(self, project_id):
        if project_id not in self.projects:
            raise ProjectNotFoundError(f"there is no project {project_id}")
        return [task for _, task in sorted(self.tasks.items()) if task["project"] == project_id]

    def _store(self, project_id, body):
        task_id = max(self.tasks, default=0) + 1 if self.reuses_ids else next(self._numbers)
        annotations = [
            {"was_cancelled": False, **annotation, "id": next(self._numbers)}
            for annotation in body.get("annotations", ())
        ]
        self.tasks[task_id] = {
            "id": task_id,
            "project": project_id,
            "data": copy.deepcopy(body["data"]),
            "meta": copy.deepcopy(body.get("meta", {})),
            "predictions": [self._prediction(item) for item in body.get("predictions", ())],
            "annotations": annotations,
            "counted": len(annotations),
        }
        self._touch(task_id)
        return task_id

    def _prediction(self, item):
        score, version = item.get("score"), item.get("model_version", "undefined")
        return {
            "id": next(self._prediction_numbers),
            "result": copy.deepcopy(item["result"]),
            "score": None if score is None else float(score),
            "model_version": None if version is None else str(version),
            "neighbors": copy.deepcopy(item.get("neighbors")),
        }

    def _touch(self, task_id):
        task = self.tasks[task_id]
        if self.counts:
            task["counted"] = len(task["annotations"])
        task["updated_at"] = _timestamp(_now())


def _now():
    return datetime.now(timezone.utc)


def _timestamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_first = datetime(2026, 1, 1, tzinfo=timezone.utc)
_creation_times = (_timestamp(_first + timedelta(seconds=number)) for number in itertools.count())
"""Times of creation for the projects of all apps, each another one."""

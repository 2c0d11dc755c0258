"""One suite for every LabelingApp: in memory, and the real Label Studio."""

import contextlib
import itertools
import json
import os
import sqlite3
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import jwt
import pytest

from ls_pipeline.cli.servers.ports import WEBHOOKS_HOST, is_address
from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.errors import (
    InvalidVariableError,
    LabelStudioAccessError,
    LabelStudioError,
    LabelStudioUnavailableError,
    PipelineError,
    ProjectNotFoundError,
    TaskPartsLostError,
    TasksRefusedError,
)
from ls_pipeline.domain.predictions import change_predictions, own_predictions, record_of
from ls_pipeline.domain.tasks import Origin, Task
from ls_pipeline.resources.label_studio import app as label_studio
from ls_pipeline.resources.label_studio import marks, storages
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.labeling_app import SECRET_HEADER, StorageLocation
from tests.contracts.conftest import Answer, serving
from tests.contracts.memory_labeling_app import MemoryLabelingApp

CONFIG = """<View><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>"""
RESULT = [{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["A"]}}]

LOCKED_SECONDS = 12
"""Longer than Label Studio waits for its locked database before it retries."""

BRIEFLY_LOCKED_SECONDS = 6
"""Longer than Label Studio waits for its locked database, but not as long as it retries."""

TRIES = 5
"""How often a program may come too late on a busy machine."""

numbers = itertools.count()


class RealApp(LabelStudio):
    """Label Studio, which also annotates, and can lose a count."""

    database: str = ""

    def lose_count(self, task_id):
        # Label Studio leaves such a count after it deletes two projects at the same time.
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as db, db:
            db.execute("UPDATE task SET total_annotations = 0 WHERE id = ?", [task_id])

    def import_twice(self, project_id, tasks):
        """Import until Label Studio stores the tasks a second time."""
        above = self.highest_task_id(project_id)
        for _ in range(TRIES):
            began = time.monotonic()
            ids = self.import_while_locked(project_id, tasks)
            if self.count_tasks_above(project_id, above) > len(tasks):
                assert time.monotonic() - began > self.repeats_after
                return ids
            for task_id in ids:  # this program came too late
                self.delete_task(task_id)
        raise AssertionError("Label Studio stored the tasks once.")

    def import_while_locked(self, project_id, tasks):
        """Import while another program locks the database just after the first commit."""
        query = "SELECT count(*) FROM task WHERE project_id = ?", [project_id]
        with (
            contextlib.closing(sqlite3.connect(self.database, timeout=60)) as db,
            ThreadPoolExecutor(1) as pool,
        ):
            pending = pool.submit(self.import_tasks, project_id, tasks)
            while not db.execute(*query).fetchone()[0] and not pending.done():
                time.sleep(0.0005)
            db.execute("BEGIN IMMEDIATE")
            time.sleep(BRIEFLY_LOCKED_SECONDS)
            db.rollback()
            return pending.result()

    def annotate(self, task_id, result):
        path = f"api/tasks/{task_id}/annotations/"
        return self.api.json("POST", path, json={"result": result})["id"]

    def delete_annotation(self, annotation_id):
        self.api.json("DELETE", f"api/annotations/{annotation_id}/")

    def delete_project(self, project_id):
        self.api.json("DELETE", f"api/projects/{project_id}/")

    def predict(self, task_id, result, **more):
        body = {"task": task_id, "result": result, **more}
        return self.api.json("POST", "api/predictions/", json=body)["id"]

    def draft(self, task_id, result):
        self.api.json("POST", f"api/tasks/{task_id}/drafts", json={"result": result})

    def draft_of_another(self, task_id, result):
        """Draft as a user to whom the API key does not belong."""
        name = f"{os.getpid()}-{next(numbers)}"
        body = {"username": name, "email": f"{name}@example.com"}
        user = self.api.json("POST", "api/users/", json=body)
        self.draft(task_id, result)
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as db, db:
            row = [user["id"], task_id]
            db.execute("UPDATE tasks_annotationdraft SET user_id = ? WHERE task_id = ?", row)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.server)])
def app(request):
    if request.param == "memory":
        return MemoryLabelingApp()
    return request.getfixturevalue("app_on_sqlite")


@pytest.fixture
def app_on_sqlite(live_environment, label_studio_server):
    home = label_studio_server.environment["LABEL_STUDIO_BASE_DATA_DIR"]
    return RealApp(database=f"{home}/label_studio.sqlite3")


@pytest.fixture
def project(app):
    return app.create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)


def parts_of(completion):
    return [*completion.annotations, *completion.document["predictions"]]


def body(text="a", row=0, **more):
    origin = Origin("c", "s3://b/k", "v", row)
    return {**Task(row, {"text": text}).as_import(origin), **more}


def test_project_is_created_once_and_found_by_its_exact_title(app, project):
    assert app.create_project(project.title, CONFIG).id == project.id
    assert app.create_project(project.title.lower(), CONFIG).id != project.id


def test_absent_title_finds_no_project(app, project):
    assert app.find_project(project.title).id == project.id
    assert app.find_project(f"{project.title} absent") is None


def test_project_keeps_its_label_config(app, project):
    same = app.create_project(project.title, "<View/>")

    assert same.label_config.split() == CONFIG.split()


def test_copied_project_is_created_once_with_its_label_config(app, project):
    title = f"{project.title} (2)"
    copied = app.create_project_like(project.id, title)

    assert (copied.label_config, copied.tasks) == (app.project(project.id).label_config, 0)
    assert app.create_project_like(project.id, title).id == copied.id != project.id


def test_projects_with_a_prefix_come_oldest_first(app, project):
    numbered = [
        app.create_project_like(project.id, project.title + more) for more in (" (3)", " (2)")
    ]
    app.create_project(f"No {project.title}", CONFIG)
    app.import_tasks(project.id, [body()])
    projects = list(app.projects_with_prefix(project.title))

    assert [row.id for row in projects] == [project.id, *(row.id for row in numbered)]
    assert [row.tasks for row in projects] == [1, 0, 0]


def test_project_without_a_label_config_accepts_tasks(app):
    project = app.create_project(f"Empty {os.getpid()} {next(numbers)}", "")
    app.import_tasks(project.id, [body()])

    assert app.project(project.id).tasks == 1


def test_absent_project_is_an_error(app):
    with pytest.raises(ProjectNotFoundError):
        app.project(10**6)


def test_projects_of_one_title_differ_in_their_creation(app, project):
    app.delete_project(project.id)
    again = app.create_project(project.title, CONFIG)

    assert again.created_at == app.project(again.id).created_at > project.created_at


def test_existing_projects_leave_out_deleted_ones(app, project):
    other = app.create_project(f"{project.title} too", CONFIG)
    deleted = app.create_project(f"{project.title} deleted", CONFIG)
    app.delete_project(deleted.id)
    existing = app.existing_projects([other.id, deleted.id, project.id])

    assert existing == {id_: app.project(id_) for id_ in (project.id, other.id)}
    assert app.existing_projects([]) == {}


def test_more_projects_than_one_page_are_found(app, project):
    ids = [project.id, *range(10**9, 10**9 + 150), project.id]

    assert list(app.existing_projects(ids)) == [project.id]


def test_import_returns_ids_in_order(app, project):
    ids = app.import_tasks(project.id, [body(str(n), n) for n in range(5)])
    origins = dict(app.task_origins_above(project.id, 0))

    assert [origins[number].row for number in ids] == list(range(5))
    assert app.project(project.id).tasks == 5


def test_import_stored_twice_returns_the_ids_of_the_second(app, project):
    above = app.highest_task_id(project.id)
    ids = app.import_twice(project.id, [body(row=row) for row in range(300)])
    stored = list(app.task_origins_above(project.id, above))

    assert [task_id for task_id, _ in stored[300:]] == ids
    assert [origin.row for _, origin in stored] == [*range(300), *range(300)]
    assert ids[0] > above + 1
    assert [app.count_tasks_above(project.id, id_) for id_ in (above, ids[-1])] == [600, 0]


def test_import_is_all_or_nothing_and_names_the_refused_task(app, project):
    with pytest.raises(TasksRefusedError) as caught:
        app.import_tasks(project.id, [body(), body() | {"data": {"x": 1}}, body()])

    assert list(caught.value.reasons) == [1]
    assert app.highest_task_id(project.id) == 0


def test_task_origins_above_an_id_are_of_later_tasks(app, project):
    app.import_tasks(project.id, [body(row=0)])
    above = app.highest_task_id(project.id)
    app.import_tasks(project.id, [body(row=1)])

    assert [origin.row for _, origin in app.task_origins_above(project.id, above)] == [1]


def test_origin_is_read_as_it_was_written(app, project):
    origin = Origin("c", "s3://b/ä b+%2F\u2028.json", "v", 7)
    app.import_tasks(project.id, [Task(7, {"text": "s3://b/x"}).as_import(origin)])

    assert [stored for _, stored in app.task_origins_above(project.id, 0)] == [origin]


def test_new_annotation_changes_the_state_and_its_time(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    before = next(iter(app.task_states(project.id)))
    app.annotate(task_id, RESULT)
    after = next(iter(app.task_states(project.id)))

    assert (before.annotations, after.annotations) == (0, 1)
    assert after.updated_at > before.updated_at


def test_deleted_annotation_changes_the_state(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    annotation = app.annotate(task_id, RESULT)
    before = next(iter(app.task_states(project.id)))
    app.delete_annotation(annotation)
    (after,) = app.task_states(project.id, before.updated_at)

    assert after.annotations == 0


def test_states_since_a_time_omit_earlier_states(app, project):
    first, _ = app.import_tasks(project.id, [body(row=0), body(row=1)])
    app.annotate(first, RESULT)
    since = max(state.updated_at for state in app.task_states(project.id))

    assert [state.id for state in app.task_states(project.id, since)] == [first]


def test_recent_changes_count_the_listed_states(app, project):
    first, second = app.import_tasks(project.id, [body(row=0), body(row=1)])
    before = app.now()
    app.annotate(second, RESULT)
    app.annotate(first, RESULT)
    states = list(app.task_states(project.id))
    times = [before, *(state.updated_at for state in states), "2999-01-01T00:00:00.000000Z"]
    recent = [app.recent_changes(project.id, since) for since in times]

    assert recent == [RecentChanges.among(states, since) for since in times]
    assert [changes.count for changes in recent] == [2, 1, 2, 0]


def test_now_is_not_later_than_the_next_write(app, project):
    now = app.now()
    app.import_tasks(project.id, [body()])

    assert next(iter(app.task_states(project.id))).updated_at >= now


def test_completion_has_the_annotation_and_the_raw_data(app, project):
    (task_id,) = app.import_tasks(project.id, [body("s3://b/k")])
    app.annotate(task_id, RESULT)
    (completion,) = app.completions(project.id, [task_id])

    assert (completion.task_id, completion.origin.uri, completion.document["data"]) == (
        task_id,
        "s3://b/k",
        {"text": "s3://b/k"},
    )
    assert completion.annotations[0]["result"] == RESULT


def test_completions_leave_out_deleted_tasks(app, project):
    ids = app.import_tasks(project.id, [body(row=n) for n in range(3)])
    app.delete_task(ids[1])

    assert [task.task_id for task in app.completions(project.id, ids)] == [ids[0], ids[2]]


def test_completions_come_by_id_each_once(app, project):
    ids = app.import_tasks(project.id, [body(row=n) for n in range(102)])

    some = [ids[0], *ids[2:]]

    assert [task.task_id for task in app.completions(project.id, [*ids[::-1], ids[0]])] == ids
    assert [task.task_id for task in app.completions(project.id, some)] == some


def test_deleting_a_task_twice_is_fine(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    app.delete_task(task_id)
    app.delete_task(task_id)

    assert list(app.task_states(project.id)) == []


def test_draft_is_human_work_and_not_a_completion(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    (before,) = app.completions(project.id, [task_id])
    app.draft(task_id, RESULT)
    (after,) = app.completions(project.id, [task_id])

    assert (before.has_human_work, after.has_human_work, after.annotations) == (False, True, [])


def test_draft_of_another_user_is_human_work(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    app.draft_of_another(task_id, RESULT)
    (completion,) = app.completions(project.id, [task_id])

    assert completion.has_human_work


def test_imported_annotations_count(app, project):
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}]), body(row=1)])

    assert app.count_annotated(project.id) == 1


def test_task_with_several_annotations_is_annotated_once(app, project):
    skipped = {"result": RESULT, "was_cancelled": True}
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}, skipped])])
    app.import_tasks(project.id, [body(annotations=[skipped], row=1), body(row=2)])

    assert app.count_annotated(project.id) == 2
    assert app.uncounted_tasks(project.id) == []


def test_empty_project_has_no_annotated_task(app, project):
    assert app.count_annotated(project.id) == 0
    assert app.uncounted_tasks(project.id) == []


def test_miscounted_task_with_annotations_is_listed(app, project):
    lost, other, _ = app.import_tasks(project.id, [body(row=row) for row in range(3)])
    for number in (lost, lost, other):
        app.annotate(number, RESULT)
    (since,) = (state.updated_at for state in app.task_states(project.id) if state.id == lost)
    app.lose_count(lost)

    assert [state.annotations for state in app.task_states(project.id)] == [0, 1, 0]
    assert app.uncounted_tasks(project.id) == app.uncounted_tasks(project.id, since) == [lost]
    assert app.uncounted_tasks(project.id, "2999-01-01T00:00:00.000000Z") == []
    assert app.count_annotated(project.id) == 2
    assert app.count_annotations([project.id]) == {project.id: 3}


def test_annotations_of_several_projects_are_counted_at_once(app, project):
    other = app.create_project(f"{project.title} too", CONFIG)
    skipped = {"result": RESULT, "was_cancelled": True}
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}, skipped]), body(row=1)])
    absent = other.id + 1_000_000

    assert app.count_annotations([project.id, other.id, absent]) == {project.id: 2, other.id: 0}
    assert app.count_annotations([]) == {}


def test_more_projects_than_one_page_are_counted(app, project):
    ids = [project.id, *range(10**9, 10**9 + 150), project.id]

    assert app.count_annotations(ids) == {project.id: 0}


def test_update_replaces_data_and_meta(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    origin = Origin("c", "s3://b/k", "v2", 0)
    app.update_task(task_id, Task(0, {"text": "new"}).as_import(origin))
    (completion,) = app.completions(project.id, [task_id])

    assert (completion.document["data"], completion.origin) == ({"text": "new"}, origin)


def test_update_of_an_absent_task_is_an_error(app):
    with pytest.raises(ProjectNotFoundError):
        app.update_task(10**6, body())


PREDICTIONS = [
    {"result": RESULT},
    {"result": RESULT, "model_version": "m1", "score": 0.1},
    {"result": RESULT, "model_version": "", "score": "0.25"},
    {"result": RESULT, "model_version": None, "score": 1},
    {"result": RESULT, "model_version": 3, "score": -0.0},
    {"result": RESULT, "model_version": 1.5, "more": "left out"},
    {"result": [], "model_version": "ä\u2028 ' \"", "score": None},
    {"result": [{**RESULT[0], "value": {"choices": ["A"], "n": [1, 1.0, 1e300, 2**53 + 1, 0.1]}}]},
    {"result": [{**RESULT[0], "id": "x", "meta": {"a": [None, True, {}]}, "ü": "\U0001f600"}]},
]


def changes_of(app, project, task_id, wanted):
    (task,) = app.completions(project.id, [task_id])
    return change_predictions(task.predictions, task.origin.predictions, wanted)


def with_predictions(predictions, row=0):
    origin = Origin("c", "s3://b/k", "v", row, predictions=record_of(predictions))
    return Task(row, {"text": "a"}, predictions=predictions).as_import(origin)


def test_imported_predictions_are_known_by_their_digests(app, project):
    tasks = [with_predictions([each], row) for row, each in enumerate(PREDICTIONS)]
    tasks.append(with_predictions(PREDICTIONS, len(tasks)))
    ids = app.import_tasks(project.id, tasks)
    wanted = [*([each] for each in PREDICTIONS), PREDICTIONS]

    for task_id, predictions in zip(ids, wanted, strict=True):
        assert changes_of(app, project, task_id, predictions).is_nothing, predictions
        assert len(changes_of(app, project, task_id, []).superfluous) == len(predictions)


def test_added_predictions_are_stored_as_imported_ones_and_tagged(app, project):
    one, other = app.import_tasks(project.id, [with_predictions(PREDICTIONS), body(row=1)])
    change = changes_of(app, project, other, PREDICTIONS)
    for prediction in change.missing.values():
        app.add_prediction(other, prediction)
    imported, added = app.completions(project.id, [one, other])

    def contents(task):
        fields = [
            {name: each.document[name] for name in ("result", "score", "model_version")}
            for each in task.predictions
        ]
        return [{**each, "model_version": each["model_version"] or ""} for each in fields]

    assert contents(imported) == contents(added)
    assert [each.tag.place for each in added.predictions] == list(range(len(PREDICTIONS)))
    assert own_predictions(added.predictions, change.record).missing == []


def test_predictions_of_a_model_are_not_ours(app, project):
    (task_id,) = app.import_tasks(project.id, [with_predictions([])])
    app.predict(task_id, RESULT, model_version="m1")

    assert changes_of(app, project, task_id, []).is_nothing


def test_prediction_touches_its_task_but_not_the_digest_of_its_completion(app, project):
    (task_id,) = app.import_tasks(project.id, [body()])
    app.annotate(task_id, RESULT)
    (before,) = app.completions(project.id, [task_id])
    app.predict(task_id, RESULT, model_version="m1")
    (after,) = app.completions(project.id, [task_id])

    assert (after.digest, after.updated_at > before.updated_at) == (before.digest, True)
    assert [each["model_version"] for each in after.document["predictions"]] == ["m1"]


def test_deleting_a_prediction_twice_is_fine(app, project):
    (task_id,) = app.import_tasks(project.id, [with_predictions(PREDICTIONS[:2])])
    (before,) = app.completions(project.id, [task_id])
    for _ in range(2):
        app.delete_prediction(before.predictions[0].id)
    (after,) = app.completions(project.id, [task_id])

    assert after.predictions == before.predictions[1:]


def test_id_of_a_deleted_prediction_is_not_used_again(app, project):
    (task_id,) = app.import_tasks(project.id, [with_predictions([])])
    first = app.predict(task_id, RESULT, model_version="m1")
    app.delete_prediction(first)

    assert app.predict(task_id, RESULT, model_version="m1") > first


def test_prediction_of_an_absent_task_is_refused(app):
    with pytest.raises(TasksRefusedError):
        app.add_prediction(10**6, {"result": RESULT})


def test_server_info_has_version_token_and_user(app):
    info = app.server_info()

    assert (info.version, info.token, "@" in info.user) == (app.version(), "legacy token", True)


def test_annotation_can_be_that_of_a_user(app, project):
    user = app.users()[app.server_info().user.lower()]
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT, "completed_by": user}])])

    assert app.count_annotations([project.id]) == {project.id: 1}


def test_annotation_of_anyone_else_is_refused(app, project):
    annotation = {"result": RESULT, "completed_by": 10**6}

    with pytest.raises(TasksRefusedError):
        app.import_tasks(project.id, [body(annotations=[annotation])])


# -- marks --------------------------------------------------------------------------------


def marks_of(app, project):
    return [mark for mark in app.marks() if mark.project_id == project.id]


def test_marks_are_listed_as_added_the_oldest_first(app, project):
    other = app.create_project(f"{project.title} too", CONFIG)
    second = app.add_mark(other.id, "ledger", "reviews", 2)
    third = app.add_mark(project.id, "ledger", "pictures", 0)
    first = app.add_mark(project.id, "restored", "critiques ✓, été", 3)
    ours = [mark for mark in app.marks() if mark.project_id in {project.id, other.id}]

    assert ours == [second, third, first]
    assert (second.project_id, second.ledger, second.connection) == (other.id, "ledger", "reviews")
    assert [mark.generation for mark in ours] == [2, 0, 3]
    assert first.connection == "critiques ✓, été"


def test_mark_of_an_absent_project_is_an_error(app):
    with pytest.raises(LabelStudioError):
        app.add_mark(10**6, "ledger", "c", 1)


def test_marks_of_one_project_are_listed_alone(app, project):
    other = app.create_project(f"{project.title} too", CONFIG)
    own = [app.add_mark(each.id, "ledger", "c", 1) for each in (project, other, project)]

    assert app.marks(project.id) == [own[0], own[2]]
    with pytest.raises(ProjectNotFoundError):
        app.marks(10**6)


def test_raised_mark_has_the_new_generation(app, project):
    mark, other = (app.add_mark(project.id, "ledger", name, 1) for name in "cd")
    raised = app.raise_mark(mark, 7)
    again = app.raise_mark(mark, 8)

    assert (raised, again) == (replace(mark, generation=7), replace(mark, generation=8))
    assert marks_of(app, project) == [again, other]


@pytest.mark.parametrize("change", [{"ledger": "mine"}, {"connection": "d"}, {"project_id": 10**6}])
def test_mark_that_is_another_by_now_stays_as_it_is(app, project, change):
    mark = app.add_mark(project.id, "ledger", "c", 1)
    app.remove_mark(replace(mark, **change))
    with pytest.raises(ProjectNotFoundError):
        app.raise_mark(replace(mark, **change), 2)

    assert marks_of(app, project) == [mark]


def test_removed_mark_is_gone(app, project):
    mark = app.add_mark(project.id, "ledger", "c", 1)
    app.remove_mark(mark)
    app.remove_mark(mark)

    assert marks_of(app, project) == []
    with pytest.raises(ProjectNotFoundError):
        app.raise_mark(mark, 2)


def test_marks_of_a_deleted_project_are_gone(app, project):
    mark = app.add_mark(project.id, "ledger", "c", 1)
    app.delete_project(project.id)
    app.create_project(project.title, CONFIG)

    assert mark not in app.marks()
    with pytest.raises(ProjectNotFoundError):
        app.raise_mark(mark, 2)


def test_marks_are_no_webhooks_and_webhooks_no_marks(app, project, receiver):
    address = f"{receiver.url}/connections/c"
    (task_id,) = app.import_tasks(project.id, [body()])
    mark = app.add_mark(project.id, "ledger", "c", 1)
    before = app.has_webhook(project.id, address, "our-secret")
    app.register_webhook(project.id, address, "our-secret")
    app.raise_mark(mark, 2)
    app.annotate(task_id, RESULT)

    assert (before, app.has_webhook(project.id, address, "our-secret")) == (False, True)
    assert calls(receiver) == [("/connections/c", {"action": "ANNOTATION_CREATED"}, "our-secret")]
    assert [mark.generation for mark in marks_of(app, project)] == [2]


# -- Label Studio alone -------------------------------------------------------------------


@pytest.mark.server
def test_wrong_api_key_names_the_variable(live_environment):
    live_environment.setenv("LABEL_STUDIO_API_KEY", "wrong-token")

    with pytest.raises(LabelStudioAccessError, match="refuses LABEL_STUDIO_API_KEY"):
        LabelStudio().project(1)


@pytest.mark.server
def test_personal_access_token_is_accepted(live_environment, personal_access_token):
    live_environment.setenv("LABEL_STUDIO_API_KEY", personal_access_token)

    assert RealApp().now()


def test_missing_api_key_names_the_variable():
    with pytest.raises(LabelStudioAccessError, match="Set LABEL_STUDIO_API_KEY"):
        LabelStudio().project(1)


@pytest.mark.slow
def test_unreachable_server_names_the_variable(environment):
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")

    with pytest.raises(LabelStudioUnavailableError, match="LABEL_STUDIO_URL"):
        LabelStudio().project(1)


@pytest.mark.server
def test_server_that_is_not_label_studio_is_an_error(live_environment, s3_server):
    live_environment.setenv("LABEL_STUDIO_URL", s3_server.url)

    with pytest.raises(LabelStudioError):
        LabelStudio().project(1)


@pytest.mark.server
def test_project_is_found_on_a_later_page(live_environment, monkeypatch):
    monkeypatch.setattr(label_studio, "PROJECTS_PAGE", 2)
    app, title = RealApp(), f"Many {os.getpid()}"
    ids = [app.create_project(f"{title}{number}", CONFIG).id for number in range(5)]

    assert [project.id for project in app.projects_with_prefix(title)] == ids


@pytest.mark.parametrize("key", ["secret\nof-ours", "secret of-ours", "“secret-of-ours”"])
def test_malformed_api_key_is_refused_without_showing_it(environment, fake_server, key):
    environment.setenv("LABEL_STUDIO_URL", fake_server.url)
    environment.setenv("LABEL_STUDIO_API_KEY", key)

    with pytest.raises(LabelStudioAccessError, match="LABEL_STUDIO_API_KEY contains") as caught:
        LabelStudio().version()
    assert "of-ours" not in "".join(traceback.format_exception(caught.value))


def test_line_break_after_the_api_key_is_ignored(environment, fake_server):
    environment.setenv("LABEL_STUDIO_URL", fake_server.url)
    environment.setenv("LABEL_STUDIO_API_KEY", "secret-of-ours\n")
    fake_server.answer = Answer(b'{"release": "1.23.2"}')
    LabelStudio().version()

    assert fake_server.requests[0].headers["authorization"] == "Token secret-of-ours"


def test_invalid_url_error_names_the_variable(environment):
    environment.setenv("LABEL_STUDIO_URL", "http://localhost:80a")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")

    with pytest.raises(InvalidVariableError, match="LABEL_STUDIO_URL is 'http://localhost:80a'"):
        LabelStudio().version()


def test_url_without_http_error_names_the_variable(environment):
    environment.setenv("LABEL_STUDIO_URL", "localhost:8080")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")

    with pytest.raises(InvalidVariableError, match="LABEL_STUDIO_URL is 'localhost:8080'"):
        LabelStudio().version()


def test_invalid_public_url_error_names_the_variable(environment):
    environment.setenv("LABEL_STUDIO_API_KEY", "token")
    environment.setenv("LABEL_STUDIO_PUBLIC_URL", "http://localhost:80a")

    with pytest.raises(
        InvalidVariableError, match="LABEL_STUDIO_PUBLIC_URL is 'http://localhost:80a'"
    ):
        LabelStudio().fetch_as_browser(1, "s3://b/k")


def test_unreadable_service_account_key_names_the_variable(environment, fake_server):
    environment.setenv("LABEL_STUDIO_URL", fake_server.url)
    environment.setenv("LABEL_STUDIO_API_KEY", "token")
    environment.setenv("LABEL_STUDIO_GOOGLE_CREDENTIALS", "/absent.json")
    fake_server.answer = Answer(b"[]")

    with pytest.raises(InvalidVariableError, match="LABEL_STUDIO_GOOGLE_CREDENTIALS names"):
        LabelStudio().register_storage(1, StorageLocation("gs", "b"))


def test_token_refresh_through_a_broken_proxy_is_an_outage(environment, fake_server):
    environment.setenv("LABEL_STUDIO_URL", fake_server.url)
    environment.setenv("LABEL_STUDIO_API_KEY", jwt.encode({"exp": 2**32}, "k" * 32))
    fake_server.answer = Answer(b"<html>Bad gateway</html>", 502)

    with pytest.raises(LabelStudioUnavailableError, match="token refresh"):
        LabelStudio().version()


# -- Label Studio that fails --------------------------------------------------------------


@pytest.fixture
def faulty_app(environment, fake_server):
    """Return an app whose server answers what a test sets."""
    environment.setenv("LABEL_STUDIO_URL", fake_server.url)
    environment.setenv("LABEL_STUDIO_API_KEY", "token")
    return LabelStudio()


def own_error(status):
    """Return an error document of Label Studio (``core/utils/common.py``)."""
    return Answer(json.dumps({"status_code": status, "detail": "It said so."}).encode(), status)


def page(status):
    """Return an error page of a proxy, or of the web server that runs Label Studio."""
    return Answer(b"<html>Sorry</html>", status)


WRITES = {
    "update": lambda app: app.update_task(1, body()),
    "delete": lambda app: app.delete_task(1),
    "add_mark": lambda app: app.add_mark(1, "ledger", "c", 1),
}


@pytest.mark.parametrize(
    "answer",
    [page(400), page(404), page(409), page(500), page(502), own_error(500), own_error(503)],
    ids=lambda answer: f"{'page' if b'html' in answer.body else 'own'}-{answer.status}",
)
@pytest.mark.parametrize("write", WRITES)
def test_write_through_a_failed_server_or_proxy_is_an_outage(
    faulty_app, fake_server, write, answer
):
    fake_server.answer = answer
    with pytest.raises(LabelStudioUnavailableError):
        WRITES[write](faulty_app)

    assert len([request for request in fake_server.requests if request.method != "GET"]) == 1


def test_project_is_not_absent_because_a_proxy_says_so(faulty_app, fake_server):
    fake_server.answer = page(404)

    with pytest.raises(LabelStudioUnavailableError, match="LABEL_STUDIO_URL"):
        faulty_app.project(1)


@pytest.mark.parametrize("answer", [own_error(400), page(413)])
def test_refused_import_stored_nothing(faulty_app, fake_server, answer):
    fake_server.answer = answer
    with pytest.raises(TasksRefusedError) as caught:
        faulty_app.import_tasks(1, [body()])

    assert not caught.value.crashed


def test_what_a_crashed_import_stored_is_unknown(faulty_app, fake_server):
    fake_server.answer = own_error(500)
    with pytest.raises(TasksRefusedError) as caught:
        faulty_app.import_tasks(1, [body()])

    assert caught.value.crashed
    assert len(fake_server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [page(400), page(404), page(500), page(502), own_error(409), own_error(422), own_error(503)],
    ids=lambda answer: f"{'page' if b'html' in answer.body else 'own'}-{answer.status}",
)
def test_import_with_any_other_error_is_an_outage(faulty_app, fake_server, answer):
    fake_server.answer = answer
    with pytest.raises(LabelStudioUnavailableError):
        faulty_app.import_tasks(1, [body()])

    assert len(fake_server.requests) == 1


UNREACHABLE = {
    httpx.HTTPStatusError: "is raised by raise_for_status, which nothing calls",
    httpx.CookieConflict: "is raised for a cookie that is read by name, which nothing does",
    httpx.StreamError: "is raised for a body that is streamed, which nothing does",
}


def httpx_exceptions():
    classes = [value for value in vars(httpx).values() if isinstance(value, type)]
    exceptions = [kind for kind in classes if issubclass(kind, Exception)]
    return [kind for kind in exceptions if not issubclass(kind, tuple(UNREACHABLE))]


class FailingClient:
    """A session whose requests all fail."""

    def __init__(self, error):
        self.error = error

    def request(self, *_args, **_options):
        raise self.error


@pytest.fixture(params=httpx_exceptions(), ids=lambda kind: kind.__name__)
def failing_app(request, environment):
    environment.setenv("LABEL_STUDIO_URL", "http://labels")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")
    error = request.param("it fails")
    if isinstance(error, httpx.HTTPError):
        error.request = httpx.Request("GET", "http://labels/api/version")
    app = LabelStudio()
    app.api.http = FailingClient(error)
    return app


@pytest.mark.parametrize(
    "call",
    [LabelStudio.version, lambda app: app.fetch_as_browser(1, "s3://b/k")],
    ids=["version", "fetch_as_browser"],
)
def test_every_httpx_exception_becomes_a_pipeline_error(failing_app, call):
    with pytest.raises(PipelineError):
        call(failing_app)


@pytest.mark.server
def test_older_of_two_projects_with_one_title_counts(live_environment):
    app, title = RealApp(), f"Twice {os.getpid()} and with a title as long as allowed"[:50]
    first = app.create_project(title, CONFIG)
    oldest = app._create_project(title, {"label_config": CONFIG})
    app._create_project(title, {"label_config": CONFIG})
    titles = [project.title for project in app.projects_with_prefix(title[:20])]

    assert oldest.id == app.create_project(title, CONFIG).id == first.id
    assert titles == [title, *[f"{title[:29]} (made twice, unused)"] * 2]


@pytest.mark.server
def test_project_like_another_has_its_labeling_settings(live_environment):
    app = RealApp()
    project = app.create_project("Set up by hand", CONFIG)
    by_hand = {"expert_instruction": "Look twice.", "maximum_annotations": 3, "color": "#123456"}
    app.api.json("PATCH", f"api/projects/{project.id}/", json=by_hand)
    copied = app.create_project_like(project.id, "Set up by hand (2)")
    settings = app.api.json("GET", f"api/projects/{copied.id}/")

    assert {name: settings[name] for name in by_hand} == by_hand


@pytest.mark.server
def test_task_parts_survive_an_import_retried_by_label_studio(app_on_sqlite):
    app = app_on_sqlite
    project = app.create_project(f"Locked {os.getpid()}", CONFIG)
    tasks = [body(predictions=[{"result": RESULT}], annotations=[{"result": RESULT}]), body(row=1)]
    with contextlib.closing(sqlite3.connect(app.database)) as db, ThreadPoolExecutor(1) as pool:
        db.execute("BEGIN IMMEDIATE")
        pending = pool.submit(app.import_tasks, project.id, tasks)
        time.sleep(LOCKED_SECONDS)
        db.rollback()
        with pytest.raises(TaskPartsLostError) as caught:
            pending.result()
    completions = list(app.completions(project.id, caught.value.task_ids))

    assert [state.id for state in app.task_states(project.id)] == caught.value.task_ids
    assert [parts_of(completion) for completion in completions] == [[], []]


def test_memory_loses_parts_as_label_studio_does():
    app = MemoryLabelingApp()
    project = app.create_project("Lost", CONFIG)
    app.loses_parts = 1
    tasks = [body(predictions=[{"result": RESULT}]), body(row=1)]
    with pytest.raises(TaskPartsLostError) as caught:
        app.import_tasks(project.id, tasks)
    lost = caught.value.task_ids
    stored = [*lost, *app.import_tasks(project.id, tasks)]
    parts = [len(parts_of(task)) for task in app.completions(project.id, stored)]

    assert parts == [0, 0, 1, 0]


@pytest.mark.server
def test_task_that_crashes_label_studio_is_not_an_outage(live_environment):
    app = RealApp()
    project = app.create_project("Crashes", CONFIG)

    with pytest.raises(TasksRefusedError) as caught:
        app.import_tasks(project.id, [body(predictions=5)])

    assert caught.value.crashed


@pytest.mark.server
def test_bucket_unreachable_for_label_studio_is_an_error(live_environment):
    app = RealApp()
    project = app.create_project("No bucket", CONFIG)

    with pytest.raises(LabelStudioError, match="can't open objects of s3://absent"):
        app.register_storage(project.id, StorageLocation("s3", "absent"))


@pytest.fixture
def storage_app(live_environment):
    """Return an app and a project without storages; there is a bucket ``storages``."""
    import boto3

    app = RealApp()
    project = app.create_project("Storages", CONFIG)
    boto3.client("s3").create_bucket(Bucket="storages")
    for storage in _storages(app, project):
        app.api.json("DELETE", f"api/storages/s3/{storage['id']}")
    return app, project


def _storages(app, project):
    return app.api.json("GET", "api/storages/s3/", params={"project": project.id})


@pytest.mark.server
def test_region_of_a_registered_storage_can_change(storage_app):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages"), is_new=True)
    app.register_storage(project.id, StorageLocation("s3", "storages", region="eu-west-3"))
    (storage,) = _storages(app, project)

    assert storage["region_name"] == "eu-west-3"


@pytest.mark.server
def test_refused_private_endpoint_falls_back_to_label_studios_own(storage_app, s3_server):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url, "eu-west-3"))
    (storage,) = _storages(app, project)

    assert (storage["s3_endpoint"] or "", storage["region_name"]) == ("", "eu-west-3")
    assert storage["title"].endswith(f"instead of {s3_server.url}")


@pytest.mark.server
def test_links_use_the_public_url(storage_app, monkeypatch):
    app, project = storage_app
    monkeypatch.setenv("LABEL_STUDIO_PUBLIC_URL", "https://labels.example.com/")

    assert app.project(project.id).url == f"https://labels.example.com/projects/{project.id}"


@pytest.mark.server
def test_refused_endpoint_is_not_sent_again(storage_app, s3_server, monkeypatch):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))
    monkeypatch.setattr(storages, "_save", None)

    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))


@pytest.mark.server
def test_endpoint_after_a_refused_one_is_accepted(storage_app, s3_server):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))
    app.register_storage(project.id, StorageLocation("s3", "storages"))
    (storage,) = _storages(app, project)

    assert "instead of" not in storage["title"]


@pytest.mark.server
def test_endpoint_without_the_bucket_is_an_error(storage_app):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages"))

    with pytest.raises(LabelStudioError, match="can't open objects of s3://storages"):
        app.register_storage(project.id, StorageLocation("s3", "storages", "https://s3.invalid"))


@pytest.mark.server
def test_storage_created_by_a_person_is_left_alone(storage_app):
    app, project = storage_app
    body = {"project": project.id, "bucket": "storages", "title": "Mine"}
    app.api.json("POST", "api/storages/s3/", json=body)
    app.register_storage(project.id, StorageLocation("s3", "storages", region="eu-west-3"))
    (storage,) = _storages(app, project)

    assert (storage["title"], storage["region_name"]) == ("Mine", None)


MARK = {marks.LEDGER: "ledger", marks.CONNECTION: "c", marks.GENERATION: "1"}


def webhook_of(app, mark):
    return app.api.json("GET", f"api/webhooks/{mark.id}/")


@pytest.mark.server
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**MARK, marks.GENERATION: "x"},
        {**MARK, marks.GENERATION: "-1"},
        {**MARK, marks.GENERATION: "1" * 19},
        {name: value for name, value in MARK.items() if name != marks.LEDGER},
    ],
    ids=["foreign", "no number", "negative", "too long", "no ledger"],
)
def test_other_webhooks_are_no_marks(app_on_sqlite, headers):
    app = app_on_sqlite
    project = app.create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)
    mark = app.add_mark(project.id, "ledger", "c", 1)
    app.api.json("PATCH", f"api/webhooks/{mark.id}/", json={"headers": headers})
    before = webhook_of(app, mark)
    app.remove_mark(mark)
    with pytest.raises(ProjectNotFoundError):
        app.raise_mark(mark, 2)

    assert marks_of(app, project) == []
    assert webhook_of(app, mark) == before


@pytest.mark.server
def test_mark_that_a_person_activated_is_deactivated(app_on_sqlite):
    app = app_on_sqlite
    project = app.create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)
    mark = app.add_mark(project.id, "ledger", "c", 1)
    edited = {"is_active": True, "send_for_all_actions": True, "actions": ["TASKS_CREATED"]}
    app.api.json("PATCH", f"api/webhooks/{mark.id}/", json=edited)
    app.raise_mark(mark, 2)
    webhook = webhook_of(app, mark)

    assert {name: webhook[name] for name in marks.UNUSED} == marks.UNUSED


# -- webhooks -------------------------------------------------------------------------


@pytest.fixture
def receiver():
    """Run a server that Label Studio may call."""
    if not is_address(WEBHOOKS_HOST):
        pytest.skip(f"{WEBHOOKS_HOST} is not an address of this machine")
    with serving(WEBHOOKS_HOST) as server:
        server.answer = Answer(status=204)
        yield server


def calls(receiver):
    return [
        (request.path, json.loads(request.body), request.headers.get(SECRET_HEADER.lower()))
        for request in receiver.requests
    ]


def test_webhook_sends_only_event_and_secret(app, project, receiver):
    (task_id,) = app.import_tasks(project.id, [body()])
    app.register_webhook(project.id, f"{receiver.url}/connections/c", "our-secret")
    app.delete_annotation(app.annotate(task_id, RESULT))

    assert calls(receiver) == [
        ("/connections/c", {"action": "ANNOTATION_CREATED"}, "our-secret"),
        ("/connections/c", {"action": "ANNOTATIONS_DELETED"}, "our-secret"),
    ]


def test_webhook_is_registered_once_and_others_stay(app, project, receiver):
    (task_id,) = app.import_tasks(project.id, [body()])
    for name in ("c", "d", "c"):
        app.register_webhook(project.id, f"{receiver.url}/connections/{name}", "our-secret")
    app.annotate(task_id, RESULT)

    assert sorted(path for path, _, _ in calls(receiver)) == ["/connections/c", "/connections/d"]


def test_webhook_is_known_by_project_address_and_secret(app, project, receiver):
    address = f"{receiver.url}/connections/c"
    before = app.has_webhook(project.id, address, "our-secret")
    app.register_webhook(project.id, address, "our-secret")

    assert (before, app.has_webhook(project.id, address, "our-secret")) == (False, True)
    assert not app.has_webhook(project.id, address, "renewed")
    assert not app.has_webhook(project.id, f"{receiver.url}/connections/d", "our-secret")


@pytest.mark.server
def test_outdated_webhook_is_corrected(live_environment, receiver):
    app = RealApp()
    project = app.create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)
    (task_id,) = app.import_tasks(project.id, [body()])
    app.register_webhook(project.id, f"http://{WEBHOOKS_HOST}:9/connections/c", "our-secret")
    app.register_webhook(project.id, f"{receiver.url}/connections/c", "our-secret")
    (webhook,) = app.api.json("GET", "api/webhooks/", params={"project": project.id})
    app.api.json(
        "PATCH", f"api/webhooks/{webhook['id']}/", json={"is_active": False, "actions": []}
    )
    app.register_webhook(project.id, f"{receiver.url}/connections/c", "renewed")
    app.annotate(task_id, RESULT)

    assert calls(receiver) == [("/connections/c", {"action": "ANNOTATION_CREATED"}, "renewed")]


@pytest.mark.server
def test_refused_webhook_address_is_an_error_with_advice(live_environment):
    app = RealApp()
    project = app.create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)

    with pytest.raises(LabelStudioError, match=r"private network\. Set LS_PIPELINE_WEBHOOK_URL"):
        app.register_webhook(project.id, "http://127.0.0.1:9/connections/c", "our-secret")

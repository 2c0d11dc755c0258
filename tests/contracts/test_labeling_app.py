"""One suite for every LabelingApp: in memory, and the real Label Studio."""

import contextlib
import itertools
import json
import os
import sqlite3
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from ls_pipeline.cli.servers.ports import WEBHOOKS_HOST, is_address
from ls_pipeline.domain.completions import RecentChanges
from ls_pipeline.domain.errors import (
    LabelStudioAccessError,
    LabelStudioError,
    LabelStudioUnavailableError,
    ProjectNotFoundError,
    TasksRefusedError,
)
from ls_pipeline.domain.tasks import Origin, Task
from ls_pipeline.resources.label_studio import app as label_studio
from ls_pipeline.resources.label_studio import storages as label_studio_storages
from ls_pipeline.resources.label_studio.app import LabelStudio, prediction_errors
from ls_pipeline.resources.labeling_app import SECRET_HEADER, StorageLocation
from tests.contracts.conftest import Answer, serving
from tests.contracts.memory_labeling_app import MemoryLabelingApp

CONFIG = """<View><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>"""
RESULT = [{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["A"]}}]

LOCKED_SECONDS = 12
"""Longer than Label Studio waits for its database before it tries again."""

numbers = itertools.count()


class RealApp(LabelStudio):
    """Label Studio, with what annotators do, and what it does wrong."""

    database: str = ""

    def lose_count(self, task_id):
        # What is left when it deletes two projects at the same moment, and is labeled on.
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as db, db:
            db.execute("UPDATE task SET total_annotations = 0 WHERE id = ?", [task_id])

    def annotate(self, task_id, result):
        path = f"api/tasks/{task_id}/annotations/"
        return self.api.json("POST", path, json={"result": result})["id"]

    def delete_annotation(self, annotation_id):
        self.api.json("DELETE", f"api/annotations/{annotation_id}/")

    def draft(self, task_id, result):
        self.api.json("POST", f"api/tasks/{task_id}/drafts", json={"result": result})


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.server)])
def app(request):
    if request.param == "memory":
        return MemoryLabelingApp()
    return request.getfixturevalue("app_on_sqlite")


@pytest.fixture
def app_on_sqlite(world, label_studio_server):
    home = label_studio_server.environment["LABEL_STUDIO_BASE_DATA_DIR"]
    return RealApp(database=f"{home}/label_studio.sqlite3")


@pytest.fixture
def project(app):
    return app.find_or_create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)


def body(text="a", row=0, **more):
    origin = Origin("c", "s3://b/k", "v", row)
    return {**Task(row, {"text": text}).as_import(origin), **more}


def test_project_is_made_once_and_found_by_its_exact_title(app, project):
    assert app.find_or_create_project(project.title, CONFIG).id == project.id
    assert app.find_or_create_project(project.title.lower(), CONFIG).id != project.id


def test_project_keeps_its_label_config(app, project):
    again = app.find_or_create_project(project.title, "<View/>")

    assert again.label_config.split() == CONFIG.split()


def test_project_like_another_is_made_once_with_its_label_config(app, project):
    title = f"{project.title} (2)"
    made = app.find_or_create_project_like(project.id, title)

    assert (made.label_config, made.tasks) == (app.project(project.id).label_config, 0)
    assert app.find_or_create_project_like(project.id, title).id == made.id != project.id


def test_projects_are_found_by_how_their_titles_begin_the_oldest_first(app, project):
    made = [
        app.find_or_create_project_like(project.id, project.title + more)
        for more in (" (3)", " (2)")
    ]
    app.find_or_create_project(f"No {project.title}", CONFIG)
    app.import_tasks(project.id, [body()])
    found = list(app.projects_with_prefix(project.title))

    assert [one.id for one in found] == [project.id, *(one.id for one in made)]
    assert [one.tasks for one in found] == [1, 0, 0]


def test_project_without_a_label_config_is_made_empty_and_takes_tasks(app):
    project = app.find_or_create_project(f"Empty {os.getpid()} {next(numbers)}", "")
    app.import_tasks(project.id, [body()])

    assert app.project(project.id).tasks == 1


def test_absent_project_is_told(app):
    with pytest.raises(ProjectNotFoundError):
        app.project(10**6)


def test_import_gives_ids_in_order(app, project):
    ids = app.import_tasks(project.id, [body(str(n), n) for n in range(5)])
    origins = dict(app.task_origins_above(project.id, 0))

    assert [origins[number].row for number in ids] == list(range(5))
    assert app.project(project.id).tasks == 5


def test_import_is_all_or_nothing_and_names_the_culprit(app, project):
    with pytest.raises(TasksRefusedError) as caught:
        app.import_tasks(project.id, [body(), body() | {"data": {"x": 1}}, body()])

    assert list(caught.value.reasons) == [1]
    assert app.highest_task_id(project.id) == 0


def test_origins_above_an_id_are_those_that_came_later(app, project):
    app.import_tasks(project.id, [body(row=0)])
    above = app.highest_task_id(project.id)
    app.import_tasks(project.id, [body(row=1)])

    assert [origin.row for _, origin in app.task_origins_above(project.id, above)] == [1]


def test_origin_comes_back_as_it_went(app, project):
    origin = Origin("c", "s3://b/ä b+%2F\u2028.json", "v", 7)
    app.import_tasks(project.id, [Task(7, {"text": "s3://b/x"}).as_import(origin)])

    assert [found for _, found in app.task_origins_above(project.id, 0)] == [origin]


def test_annotating_moves_the_state_and_its_time(app, project):
    (number,) = app.import_tasks(project.id, [body()])
    before = next(iter(app.task_states(project.id)))
    app.annotate(number, RESULT)
    after = next(iter(app.task_states(project.id)))

    assert (before.annotations, after.annotations) == (0, 1)
    assert after.updated_at > before.updated_at


def test_deleting_an_annotation_moves_the_state(app, project):
    (number,) = app.import_tasks(project.id, [body()])
    annotation = app.annotate(number, RESULT)
    before = next(iter(app.task_states(project.id)))
    app.delete_annotation(annotation)
    (after,) = app.task_states(project.id, before.updated_at)

    assert after.annotations == 0


def test_states_since_a_time_leave_earlier_ones_out(app, project):
    first, _ = app.import_tasks(project.id, [body(row=0), body(row=1)])
    app.annotate(first, RESULT)
    since = max(state.updated_at for state in app.task_states(project.id))

    assert [state.id for state in app.task_states(project.id, since)] == [first]


def test_recent_tells_of_the_states_that_would_be_listed(app, project):
    first, second = app.import_tasks(project.id, [body(row=0), body(row=1)])
    before = app.now()
    app.annotate(second, RESULT)
    app.annotate(first, RESULT)
    states = list(app.task_states(project.id))
    times = [before, *(state.updated_at for state in states), "2999-01-01T00:00:00.000000Z"]
    found = [app.recent_changes(project.id, since) for since in times]

    assert found == [RecentChanges.among(states, since) for since in times]
    assert [one.count for one in found] == [2, 1, 2, 0]


def test_now_is_not_ahead_of_what_is_written_next(app, project):
    now = app.now()
    app.import_tasks(project.id, [body()])

    assert next(iter(app.task_states(project.id))).updated_at >= now


def test_completion_has_the_annotation_and_the_raw_data(app, project):
    (number,) = app.import_tasks(project.id, [body("s3://b/k")])
    app.annotate(number, RESULT)
    (one,) = app.completions(project.id, [number])

    assert (one.task_id, one.origin.uri, one.document["data"]) == (
        number,
        "s3://b/k",
        {"text": "s3://b/k"},
    )
    assert one.annotations[0]["result"] == RESULT


def test_completions_leave_out_what_is_gone(app, project):
    ids = app.import_tasks(project.id, [body(row=n) for n in range(3)])
    app.delete_task(ids[1])

    assert [one.task_id for one in app.completions(project.id, ids)] == [ids[0], ids[2]]


def test_deleting_a_task_twice_is_fine(app, project):
    (number,) = app.import_tasks(project.id, [body()])
    app.delete_task(number)
    app.delete_task(number)

    assert list(app.task_states(project.id)) == []


def test_draft_is_a_humans_work_and_no_completion(app, project):
    (number,) = app.import_tasks(project.id, [body()])
    (before,) = app.completions(project.id, [number])
    app.draft(number, RESULT)
    (after,) = app.completions(project.id, [number])

    assert (before.has_human_work, after.has_human_work, after.annotations) == (False, True, [])


def test_imported_annotations_count(app, project):
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}]), body(row=1)])

    assert app.count_annotated(project.id) == 1


def test_task_with_several_annotations_is_annotated_once(app, project):
    skipped = {"result": RESULT, "was_cancelled": True}
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}, skipped])])
    app.import_tasks(project.id, [body(annotations=[skipped], row=1), body(row=2)])

    assert app.count_annotated(project.id) == 2
    assert app.uncounted_tasks(project.id) == []


def test_no_task_is_annotated_in_an_empty_project(app, project):
    assert app.count_annotated(project.id) == 0
    assert app.uncounted_tasks(project.id) == []


def test_annotated_task_of_which_the_app_lost_count_is_told(app, project):
    lost, other, _ = app.import_tasks(project.id, [body(row=row) for row in range(3)])
    for number in (lost, lost, other):
        app.annotate(number, RESULT)
    (since,) = (one.updated_at for one in app.task_states(project.id) if one.id == lost)
    app.lose_count(lost)

    assert [one.annotations for one in app.task_states(project.id)] == [0, 1, 0]
    assert app.uncounted_tasks(project.id) == app.uncounted_tasks(project.id, since) == [lost]
    assert app.uncounted_tasks(project.id, "2999-01-01T00:00:00.000000Z") == []
    assert app.count_annotated(project.id) == 2
    assert app.count_annotations([project.id]) == {project.id: 3}


def test_annotations_of_several_projects_are_counted_at_once(app, project):
    other = app.find_or_create_project(f"{project.title} too", CONFIG)
    skipped = {"result": RESULT, "was_cancelled": True}
    app.import_tasks(project.id, [body(annotations=[{"result": RESULT}, skipped]), body(row=1)])
    absent = other.id + 1_000_000

    assert app.count_annotations([project.id, other.id, absent]) == {project.id: 2, other.id: 0}
    assert app.count_annotations([]) == {}


def test_more_projects_than_fit_an_answer_are_counted(app, project):
    ids = [project.id, *range(10**9, 10**9 + 150), project.id]

    assert app.count_annotations(ids) == {project.id: 0}


def test_update_replaces_data_and_meta(app, project):
    (number,) = app.import_tasks(project.id, [body()])
    origin = Origin("c", "s3://b/k", "v2", 0)
    app.update_task(number, Task(0, {"text": "new"}).as_import(origin))
    (one,) = app.completions(project.id, [number])

    assert (one.document["data"], one.origin) == ({"text": "new"}, origin)


# -- Label Studio alone -------------------------------------------------------------------


@pytest.mark.server
def test_wrong_key_says_which_variable(world):
    world.setenv("LABEL_STUDIO_API_KEY", "wrong-token")

    with pytest.raises(LabelStudioAccessError, match="refuses LABEL_STUDIO_API_KEY"):
        LabelStudio().project(1)


@pytest.mark.server
def test_personal_access_token_is_taken_too(world, personal_access_token):
    world.setenv("LABEL_STUDIO_API_KEY", personal_access_token)

    assert RealApp().now()


def test_no_key_says_which_variable():
    with pytest.raises(LabelStudioAccessError, match="set LABEL_STUDIO_API_KEY"):
        LabelStudio().project(1)


@pytest.mark.slow
def test_no_server_says_which_variable(environment):
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")

    with pytest.raises(LabelStudioUnavailableError, match="LABEL_STUDIO_URL"):
        LabelStudio().project(1)


@pytest.mark.server
def test_another_server_is_told_from_label_studio(world, s3_server):
    world.setenv("LABEL_STUDIO_URL", s3_server.url)

    with pytest.raises(LabelStudioError):
        LabelStudio().project(1)


@pytest.mark.server
def test_project_is_found_among_more_than_an_answer_holds(world, monkeypatch):
    monkeypatch.setattr(label_studio, "PROJECTS_PAGE", 2)
    app, title = RealApp(), f"Many {os.getpid()}"
    made = [app.find_or_create_project(f"{title}{number}", CONFIG).id for number in range(5)]

    assert [one.id for one in app.projects_with_prefix(title)] == made


@pytest.mark.parametrize("key", ["secret\nof-ours", "secret of-ours", "“secret-of-ours”"])
def test_api_key_that_is_none_is_told_and_not_shown(environment, bad_day, key):
    environment.setenv("LABEL_STUDIO_URL", bad_day.url)
    environment.setenv("LABEL_STUDIO_API_KEY", key)

    with pytest.raises(LabelStudioAccessError, match="LABEL_STUDIO_API_KEY holds") as caught:
        LabelStudio().version()
    assert "of-ours" not in "".join(traceback.format_exception(caught.value))


def test_line_break_behind_the_api_key_is_no_part_of_it(environment, bad_day):
    environment.setenv("LABEL_STUDIO_URL", bad_day.url)
    environment.setenv("LABEL_STUDIO_API_KEY", "secret-of-ours\n")
    bad_day.answer = Answer(b'{"release": "1.23.2"}')
    LabelStudio().version()

    assert bad_day.requests[0].headers["authorization"] == "Token secret-of-ours"


def test_url_that_is_no_address_is_told(environment):
    environment.setenv("LABEL_STUDIO_URL", "http://localhost:80a")
    environment.setenv("LABEL_STUDIO_API_KEY", "token")

    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_URL is 'http://localhost:80a'"):
        LabelStudio().version()


@pytest.mark.server
def test_project_that_was_made_twice_is_the_older_one_and_none_is_deleted(world):
    app, title = RealApp(), f"Twice {os.getpid()} and with a title as long as allowed"[:50]
    first = app.find_or_create_project(title, CONFIG)
    found = app._made(title, {"label_config": CONFIG})
    app._made(title, {"label_config": CONFIG})
    titles = [one.title for one in app.projects_with_prefix(title[:20])]

    assert found.id == app.find_or_create_project(title, CONFIG).id == first.id
    assert titles == [title, *[f"{title[:29]} (made twice, unused)"] * 2]


@pytest.mark.server
def test_project_like_another_is_labeled_in_as_that_one(world):
    app = RealApp()
    project = app.find_or_create_project("Set up by hand", CONFIG)
    by_hand = {"expert_instruction": "Look twice.", "maximum_annotations": 3, "color": "#123456"}
    app.api.json("PATCH", f"api/projects/{project.id}/", json=by_hand)
    made = app.find_or_create_project_like(project.id, "Set up by hand (2)")
    found = app.api.json("GET", f"api/projects/{made.id}/")

    assert {name: found[name] for name in by_hand} == by_hand


@pytest.mark.server
def test_what_tasks_bring_is_there_though_label_studio_had_to_try_again(app_on_sqlite, monkeypatch):
    app, whole, answers = app_on_sqlite, LabelStudio._imported, []
    monkeypatch.setattr(
        LabelStudio, "_imported", lambda *asked: answers.append(whole(*asked)) or answers[-1]
    )
    project = app.find_or_create_project(f"Locked {os.getpid()}", CONFIG)
    brought = {"predictions": [{"result": RESULT}], "annotations": [{"result": RESULT}]}
    with contextlib.closing(sqlite3.connect(app.database)) as db, ThreadPoolExecutor(1) as pool:
        db.execute("BEGIN IMMEDIATE")
        coming = pool.submit(app.import_tasks, project.id, [body(**brought), body(row=1)])
        time.sleep(LOCKED_SECONDS)
        db.rollback()
        ids = coming.result()
    first, _ = found = list(app.completions(project.id, ids))

    assert [answer["prediction_count"] for answer in answers] == [0, 1]
    assert (len(first.annotations), len(first.document["predictions"])) == (1, 1)
    assert [one.task_id for one in found] == [one.id for one in app.task_states(project.id)] == ids


@pytest.mark.server
def test_task_that_crashes_label_studio_is_told_from_an_outage(world):
    app = RealApp()
    project = app.find_or_create_project("Crashes", CONFIG)

    with pytest.raises(TasksRefusedError) as caught:
        app.import_tasks(project.id, [body(predictions=5)])

    assert caught.value.crashed


@pytest.mark.server
def test_bucket_that_label_studio_can_not_reach_is_told(world):
    app = RealApp()
    project = app.find_or_create_project("No bucket", CONFIG)

    with pytest.raises(LabelStudioError, match="can't open objects of s3://absent"):
        app.register_storage(project.id, StorageLocation("s3", "absent"))


@pytest.fixture
def storage_app(world):
    """Give an app, its project and a bucket, registered once, with what tells its storages."""
    import boto3

    app = RealApp()
    project = app.find_or_create_project("Storages", CONFIG)
    boto3.client("s3").create_bucket(Bucket="storages")
    for one in _storages(app, project):
        app.api.json("DELETE", f"api/storages/s3/{one['id']}")
    return app, project


def _storages(app, project):
    return app.api.json("GET", "api/storages/s3/", params={"project": project.id})


@pytest.mark.server
def test_region_of_a_bucket_that_annotators_open_can_change(storage_app):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages"))
    app.register_storage(project.id, StorageLocation("s3", "storages", region="eu-west-3"))
    (one,) = _storages(app, project)

    assert one["region_name"] == "eu-west-3"


@pytest.mark.server
def test_inner_endpoint_that_label_studio_refuses_is_left_to_its_own(storage_app, s3_server):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url, "eu-west-3"))
    (one,) = _storages(app, project)

    assert (one["s3_endpoint"] or "", one["region_name"]) == ("", "eu-west-3")
    assert one["title"].endswith(f"instead of {s3_server.url}")


@pytest.mark.server
def test_links_lead_to_where_people_open_it(storage_app, monkeypatch):
    app, project = storage_app
    monkeypatch.setenv("LABEL_STUDIO_PUBLIC_URL", "https://labels.example.com/")

    assert app.project(project.id).url == f"https://labels.example.com/projects/{project.id}"


@pytest.mark.server
def test_endpoint_that_was_refused_is_not_proposed_at_every_pass(
    storage_app, s3_server, monkeypatch
):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))
    monkeypatch.setattr(label_studio_storages, "_store", None)

    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))


@pytest.mark.server
def test_endpoint_in_place_of_one_that_was_refused_is_taken(storage_app, s3_server):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages", s3_server.url))
    app.register_storage(project.id, StorageLocation("s3", "storages"))
    (one,) = _storages(app, project)

    assert "instead of" not in one["title"]


@pytest.mark.server
def test_endpoint_that_does_not_lead_to_the_bucket_is_told(storage_app):
    app, project = storage_app
    app.register_storage(project.id, StorageLocation("s3", "storages"))

    with pytest.raises(LabelStudioError, match="can't open objects of s3://storages"):
        app.register_storage(project.id, StorageLocation("s3", "storages", "https://s3.invalid"))


@pytest.mark.server
def test_storage_that_a_person_made_stays_as_it_is(storage_app):
    app, project = storage_app
    body = {"project": project.id, "bucket": "storages", "title": "Mine"}
    app.api.json("POST", "api/storages/s3/", json=body)
    app.register_storage(project.id, StorageLocation("s3", "storages", region="eu-west-3"))
    (one,) = _storages(app, project)

    assert (one["title"], one["region_name"]) == ("Mine", None)


def test_bad_prediction_is_found_out():
    errors = prediction_errors(CONFIG)
    wrong = [{**RESULT[0], "value": {"choices": ["C"]}}]

    assert errors({"result": RESULT}) == []
    assert errors({"result": wrong})


# -- calling back -------------------------------------------------------------------------


@pytest.fixture
def door():
    """Give a server where Label Studio may call."""
    if not is_address(WEBHOOKS_HOST):
        pytest.skip(f"{WEBHOOKS_HOST} is no address of this machine")
    with serving(WEBHOOKS_HOST) as server:
        server.answer = Answer(status=204)
        yield server


def calls(door):
    shown = SECRET_HEADER.lower()
    return [(one.path, json.loads(one.body), one.headers.get(shown)) for one in door.requests]


def test_label_that_is_made_and_deleted_is_told_with_the_secret_and_no_more(app, project, door):
    (number,) = app.import_tasks(project.id, [body()])
    app.register_webhook(project.id, f"{door.url}/connections/c", "our-secret")
    app.delete_annotation(app.annotate(number, RESULT))

    assert calls(door) == [
        ("/connections/c", {"action": "ANNOTATION_CREATED"}, "our-secret"),
        ("/connections/c", {"action": "ANNOTATIONS_DELETED"}, "our-secret"),
    ]


def test_address_is_registered_once_and_another_connections_stays(app, project, door):
    (number,) = app.import_tasks(project.id, [body()])
    for name in ("c", "d", "c"):
        app.register_webhook(project.id, f"{door.url}/connections/{name}", "our-secret")
    app.annotate(number, RESULT)

    assert sorted(path for path, _, _ in calls(door)) == ["/connections/c", "/connections/d"]


@pytest.mark.server
def test_registration_that_is_out_of_date_is_corrected(world, door):
    app = RealApp()
    project = app.find_or_create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)
    (number,) = app.import_tasks(project.id, [body()])
    app.register_webhook(project.id, f"http://{WEBHOOKS_HOST}:9/connections/c", "our-secret")
    app.register_webhook(project.id, f"{door.url}/connections/c", "our-secret")
    (there,) = app.api.json("GET", "api/webhooks/", params={"project": project.id})
    app.api.json("PATCH", f"api/webhooks/{there['id']}/", json={"is_active": False, "actions": []})
    app.register_webhook(project.id, f"{door.url}/connections/c", "renewed")
    app.annotate(number, RESULT)

    assert calls(door) == [("/connections/c", {"action": "ANNOTATION_CREATED"}, "renewed")]


@pytest.mark.server
def test_address_that_label_studio_calls_nobody_at_is_an_error_that_says_what_to_do(world):
    app = RealApp()
    project = app.find_or_create_project(f"Contract {os.getpid()} {next(numbers)}", CONFIG)

    with pytest.raises(LabelStudioError, match="inner network; set LS_PIPELINE_WEBHOOK_URL"):
        app.register_webhook(project.id, "http://127.0.0.1:9/connections/c", "our-secret")

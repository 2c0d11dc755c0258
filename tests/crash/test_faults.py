"""Servers whose failures leave their effect unknown: nothing is lost or doubled."""

from __future__ import annotations

import os

import pytest

from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.label_studio import marks
from ls_pipeline.resources.label_studio.app import LabelStudio
from tests.bench import CONFIG
from tests.crash import proxy as bad
from tests.crash.scene import AFTER_CHANGES, Scene
from tests.crash.victim import run_connection
from tests.crash.world import World

pytestmark = pytest.mark.server

RUNS_AT_MOST = 12


def run_in_process(name):
    """Run a connection; return its error, empty if all went well."""
    try:
        run_connection(name)
    except PipelineError as error:
        return str(error)
    return ""


def run_until_well(scene):
    """Run a connection until a run succeeds."""
    errors = []
    while error := scene.run():
        errors.append(error)
        assert len(errors) < RUNS_AT_MOST, errors


LABEL_STUDIO_CALLS = [
    r"POST .*/import\?",
    r"PATCH /api/tasks/",
    r"DELETE /api/tasks/",
    r"GET /api/tasks/\?",
]
SPOILS = [
    bad.reply_lost,
    bad.bad_gateway_after,
    bad.bad_gateway_before,
    bad.own_error_after,
    bad.own_error_before,
    bad.reset_in_mid_body,
    bad.too_many_requests,
    bad.committed_late,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_label_studio_that_fails_at_every_kind_of_call_loses_and_doubles_nothing(
    live_environment, between, impatient, spoil
):
    server = between(os.environ["LABEL_STUDIO_URL"])
    scene = Scene(run_in_process, "s3")
    scene.change()
    with live_environment.context() as through:
        through.setenv("LABEL_STUDIO_URL", server.url)
        with server.spoiling(LABEL_STUDIO_CALLS, spoil):
            run_until_well(scene)
            assert server.spoiled == dict.fromkeys(LABEL_STUDIO_CALLS, 1)
        server.deliver_late()
        run_until_well(scene)
    assert scene.outcome() == AFTER_CHANGES


def test_imports_that_are_stored_and_answered_by_an_error_double_nothing(live_environment, between):
    server = between(os.environ["LABEL_STUDIO_URL"])
    world = World(run_in_process, create_local_copy=False)
    world.replace({f"{number}.json": [str(number)] for number in range(300)})
    with live_environment.context() as through:
        through.setenv("LABEL_STUDIO_URL", server.url)
        with server.spoiling([r"POST .*/import\?"], bad.own_error_after, times=3):
            run_until_well(world)
            assert server.spoiled
    run_until_well(world)

    assert len(world.tasks) == 300
    world.check()


LOST_ANSWERS = [bad.reply_lost, bad.bad_gateway_after, bad.own_error_after, bad.reset_in_mid_body]
CREATIONS = [r"POST /api/projects/$", r"POST /api/storages/s3/", r"POST /api/webhooks/"]


@pytest.mark.parametrize("spoil", LOST_ANSWERS, ids=lambda spoil: spoil.__name__)
def test_what_was_created_without_an_answer_is_used_and_not_made_again(
    live_environment, between, spoil
):
    server = between(os.environ["LABEL_STUDIO_URL"])
    scene = Scene(run_in_process, "s3")
    scene.fill()
    with live_environment.context() as through:
        through.setenv("LABEL_STUDIO_URL", server.url)
        with server.spoiling(CREATIONS, spoil):
            error = scene.run()
            assert (error, server.spoiled) == ("", dict.fromkeys(CREATIONS, 1))
    (project,) = scene.app.projects_with_prefix(scene.name)
    storages = scene.app.api.json("GET", "api/storages/s3/", params={"project": project.id})
    made = [mark for mark in scene.app.marks() if mark.project_id == project.id]

    assert (project.tasks, len(storages), len(made)) == (4, 1, 1)


@pytest.mark.parametrize("spoil", LOST_ANSWERS, ids=lambda spoil: spoil.__name__)
def test_webhook_that_was_made_without_an_answer_is_not_made_again(
    live_environment, between, spoil
):
    server, direct = between(os.environ["LABEL_STUDIO_URL"]), LabelStudio()
    project = direct.create_project(f"Webhook {os.getpid()} {spoil.__name__}", CONFIG)
    webhook = project.id, f"{marks.URL}/labels", "secret"
    with server.spoiling([r"POST /api/webhooks/"], spoil):
        LabelStudio(url=server.url).register_webhook(*webhook)
        assert server.spoiled

    assert direct.has_webhook(*webhook)
    assert len(direct.api.items("GET", "api/webhooks/", params={"project": project.id})) == 1


S3_CALLS = [
    r"GET /[^/]*-in\?",
    r"GET /[^/]*-in/",
    r"PUT /[^/]*-out/[0-9]+\.json",
    r"PUT /[^/]*-out/training_data/.*parquet",
    r"PUT /[^/]*-out/training_data/latest.json",
]
S3_SPOILS = [
    bad.s3_error(503, "SlowDown"),
    bad.s3_error(200, "InternalError"),
    bad.s3_error(500, "InternalError"),
    bad.cut_short,
    bad.reply_lost,
    bad.bad_gateway_after,
]


@pytest.mark.parametrize("spoil", S3_SPOILS, ids=lambda spoil: spoil.__name__)
def test_s3_that_fails_at_every_kind_of_call_loses_and_doubles_nothing(
    live_environment, between, impatient, spoil
):
    server = between(os.environ["AWS_ENDPOINT_URL"])
    scene = Scene(run_in_process, "s3")
    scene.change()
    with live_environment.context() as through:
        through.setenv("AWS_ENDPOINT_URL", server.url)
        with server.spoiling(S3_CALLS, spoil, times=3):
            run_until_well(scene)
            assert server.spoiled.keys() == set(S3_CALLS)
        run_until_well(scene)
    assert scene.outcome() == AFTER_CHANGES


GCS_CALLS = [
    r"GET /storage/v1/b/[^/]*-in/o\?",
    r"GET /download/storage/v1/b/[^/]*-in/",
    r"POST /upload/storage/v1/b/[^/]*-out/",
]
GCS_SPOILS = [
    bad.gcs_error(503),
    bad.gcs_error(429),
    bad.web_page,
    bad.cut_short,
    bad.reply_lost,
    bad.bad_gateway_after,
]


@pytest.mark.parametrize("spoil", GCS_SPOILS, ids=lambda spoil: spoil.__name__)
def test_gcs_that_fails_at_every_kind_of_call_loses_and_doubles_nothing(
    live_environment, between, impatient, spoil
):
    server = between(os.environ["STORAGE_EMULATOR_HOST"])
    scene = Scene(run_in_process, "gcs")
    scene.change()
    with live_environment.context() as through:
        through.setenv("STORAGE_EMULATOR_HOST", server.url)
        with server.spoiling(GCS_CALLS, spoil):
            run_until_well(scene)
            assert server.spoiled == dict.fromkeys(GCS_CALLS, 1)
        run_until_well(scene)
    assert scene.outcome() == AFTER_CHANGES

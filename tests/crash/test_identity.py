"""Another Label Studio answers, or an older one; an older ledger is used, or a second one."""

from __future__ import annotations

import copy
import os
from functools import partial

import pytest
import sqlalchemy as sa

from ls_pipeline.engine.rebind import Choice, rebind
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from tests.bench import CONFIG
from tests.crash.backup import back_up_sqlite, table_digests
from tests.crash.proxy import sender_killed
from tests.crash.test_faults import run_in_process
from tests.crash.victim import run_over
from tests.crash.world import WORKS, World

pytestmark = pytest.mark.server


@pytest.fixture
def new_world(live_environment):
    return partial(World, run_in_process, create_local_copy=False)


def objects(*names):
    return {f"{name}.json": [f"{name} 0", f"{name} 1"] for name in names}


def label(world, *names):
    """Load objects, and label every other task; the next run exports that."""
    world.replace(objects(*names))
    assert world.run() == ""
    world.label(*(task_id for (_, row), task_id in world.task_ids.items() if row == 0))


def everything(world, databases):
    return [world.target_objects, *map(table_digests, databases)]


def test_other_label_studio_stops_each_run_and_nothing_changes(
    live_environment, new_world, second_label_studio
):
    second_label_studio.back_up()
    second_label_studio.start()
    world = new_world()
    label(world, *"abc")
    assert world.run() == ""
    (project_id,) = world.project_ids
    databases = [second_label_studio.first, second_label_studio.database]
    with live_environment.context() as elsewhere:
        elsewhere.setenv("LABEL_STUDIO_URL", second_label_studio.url)
        before = everything(world, databases)
        absent = world.stops()
        unchanged = everything(world, databases) == before
        other = LabelStudio().create_project(world.name, CONFIG)
        LabelStudio().import_tasks(other.id, [{"data": {"text": "other"}}] * 6)
        before = everything(world, databases)
        replaced = world.stops()

    assert other.id == project_id
    assert unchanged
    assert everything(world, databases) == before
    assert all(f"project {project_id}" in each and "not exist" in each for each in absent)
    assert all("is another one by now" in each for each in replaced)
    assert world.run() == ""
    world.check()


def test_label_studio_restored_from_a_backup_stops_each_run_until_it_is_bound_again(
    live_environment, new_world, second_label_studio
):
    world = new_world()
    label(world, *"abc")
    second_label_studio.back_up()
    before_backup = copy.deepcopy(world.people)
    label(world, *"abc", *(f"young {number}" for number in range(40)))
    assert world.run() == ""
    second_label_studio.start()
    live_environment.setenv("LABEL_STUDIO_URL", second_label_studio.url)
    world.app, world.people = LabelStudio(), before_backup
    databases = [second_label_studio.first, second_label_studio.database]
    before = everything(world, databases)
    errors = world.stops()

    assert everything(world, databases) == before
    assert all("Label Studio was restored" in each for each in errors)
    with world.ledger.acquire(world.name) as held:
        rebind(run_over(held, "target"), Choice.RELOAD)
    labels = young_files(world)
    assert len(labels) == 40
    assert world.run() == ""
    assert young_files(world) == labels  # the only place that still has them
    world.label(*(world.task_ids[f"young {number}.json", 0] for number in range(40)))
    assert world.run() == ""
    world.check()


def young_files(world):
    return {
        task_id: document
        for task_id, document in world.files.items()
        if "young" in document["data"]["text"]
    }


# -- a second installation ----------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["project and target", "project", "target"])
def test_second_installation_stops_and_the_first_goes_on(
    live_environment, new_world, label_studio_database, tmp_path, shared
):
    world, other = new_world(), new_world()
    label(world, *"abc")
    assert world.run() == ""
    own = {
        side: getattr(other.connection, side)
        for side in ("project", "target")
        if side not in shared
    }
    with live_environment.context() as elsewhere:
        elsewhere.setenv("LS_PIPELINE_HOME", str(tmp_path / "second"))
        second = copy.copy(world)
        second.ledger = Ledger(database_url())
        second.ledger.save(world.connection.model_copy(update=own), "test")
        if "project" in own:
            assert second.run_connection(world.name)
        before = world.target_objects, table_digests(label_studio_database)
        errors = second.stops(WORKS if "project" in shared else WORKS[1:])
        second.ledger.close()

    assert (world.target_objects, table_digests(label_studio_database)) == before
    assert all("another installation" in each for each in errors)
    label(world, *"abcd")
    assert world.run() == ""
    world.check()


# -- a ledger that was restored -----------------------------------------------------------------


def import_more(world):
    world.replace(objects(*"abcd"))
    return "abcd", r"POST .*/import\?"


def remove(world):
    world.replace(objects(*"ab"))
    return "ab", r"DELETE /api/tasks/"


@pytest.mark.parametrize("in_doubt", [None, import_more, remove])
def test_ledger_restored_from_a_backup_loses_and_doubles_nothing(
    live_environment, victim, between, tmp_path, in_doubt
):
    def run(name):
        return victim.run(name).get("error")

    world = World(run, tasks_per_project=6, create_local_copy=False)
    label(world, *"abc")
    names = "abc"
    if in_doubt:
        names, pattern = in_doubt(world)
        server = between(os.environ["LABEL_STUDIO_URL"])
        with live_environment.context() as through:
            through.setenv("LABEL_STUDIO_URL", server.url)
            with server.spoiling([pattern], sender_killed(victim, "at once")):
                world.run()
    back_up_sqlite(ledger_file(), tmp_path / "ledger.db")
    assert world.run() == ""

    world.delete(world.task_ids["b.json", 1])
    label(world, *names, *"efg")
    world.replace(objects(*names, *"efg") | {"a.json": ["a 0", "a 1 replaced"], "b.json": ["b 0"]})
    assert world.run() == ""
    back_up_sqlite(tmp_path / "ledger.db", ledger_file())
    assert world.run() == ""
    assert len(world.project_ids) > 1
    world.check()


def ledger_file():
    return sa.make_url(database_url()).database

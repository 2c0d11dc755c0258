"""A run is killed at a request, the world changes, the next run follows; and requests land late."""

from __future__ import annotations

import json
import os
from functools import partial

import pytest

from tests.bench import RESULT
from tests.crash.proxy import sender_killed
from tests.crash.world import World

pytestmark = pytest.mark.server

KEYS = [f"{number:02}.json" for number in range(14)]
STAYS = {"0.json": ["stays"]}


def version(number):
    return {key: [f"{key} version {number}"] for key in KEYS} | STAYS


def first_load(world):
    world.replace(version(1))


def update(world):
    world.replace(version(1))
    assert world.run() == ""
    world.replace(version(2))


def deletion(world):
    world.replace(version(1))
    assert world.run() == ""
    world.replace(STAYS)


LANDS = ("late", "at once", "never")
SOME = [(4, "late"), (8, "at once"), (13, "never")]
REQUESTS = {
    "import": (first_load, r"POST .*/import\?", 1, [(0, lands) for lands in LANDS]),
    "update": (update, r"PATCH /api/tasks/", len(KEYS), SOME),
    "deletion": (deletion, r"DELETE /api/tasks/", len(KEYS), SOME),
}
"""What a run does, the requests at which it is killed, how many of these it sends, and the cases to
try: at which of them it is killed, and when that one lands."""

KINDS = 7


def change(world):
    """Let another thing happen to each object and its task, if there is one."""
    task_ids = world.task_ids

    def some(kind):
        return [task_ids[key, 0] for key in KEYS[kind::KINDS] if (key, 0) in task_ids]

    world.label(*some(0), *some(1), *some(2)[:1])
    world.delete(*some(3))
    if tasks := some(4):
        world.label(world.copy(*tasks)[0])
    objects = version(1)
    objects |= {key: ["replaced"] for key in (*KEYS[1::KINDS], *KEYS[5::KINDS])}
    world.replace({key: text for key, text in objects.items() if key not in KEYS[2::KINDS]})


def is_labeled(at):
    """Return whether people label what the request is about; a late one may destroy that."""
    return at % KINDS <= 2


def cases(count, some, kills):
    """Return at which requests to kill, and when each lands; with many kills, all of them."""
    return (
        [(at, lands) for at in range(count) for lands in LANDS] if kills >= max(count, 10) else some
    )


@pytest.fixture
def killed_run(live_environment, victim, between):
    """Return a function that kills a world's run at a request to a server."""

    def run(world, variable, pattern, at, lands):
        server = between(os.environ[variable])
        with live_environment.context() as through:
            through.setenv(variable, server.url)
            with server.spoiling([pattern], sender_killed(victim, lands), skip=at):
                world.run()
                assert server.spoiled == {pattern: 1}
        return server

    return run


@pytest.fixture
def new_world(live_environment, victim):
    """Return a function that begins a world, whose runs the victim does."""
    return partial(World, lambda name: victim.run(name).get("error"), create_local_copy=False)


@pytest.mark.parametrize("request_", REQUESTS)
def test_run_killed_at_a_request_before_changes_loses_and_doubles_nothing(
    new_world, killed_run, kills, request_
):
    prepare, pattern, count, some = REQUESTS[request_]
    for at, lands in cases(count, some, kills):
        if count > 1 and lands == "late" and is_labeled(at):
            continue
        world = new_world()
        prepare(world)
        server = killed_run(world, "LABEL_STUDIO_URL", pattern, at, lands)
        change(world)
        assert world.run() == ""
        if server.deliver_held():
            assert world.run() == ""
        world.check(certain=request_ == "import")


def test_deletion_that_lands_on_a_new_task_with_the_same_id_is_made_good(new_world, killed_run):
    both = STAYS | {"last.json": ["last"]}
    world = new_world()
    world.replace(both)
    assert world.run() == ""
    task_id = world.task_ids["last.json", 0]
    world.replace(STAYS)
    server = killed_run(world, "LABEL_STUDIO_URL", r"DELETE /api/tasks/", 0, "late")
    world.replace(both)
    assert world.run() == ""
    assert world.task_ids["last.json", 0] == task_id  # Label Studio on SQLite uses it again
    assert server.deliver_held() == [204]
    assert world.run() == ""
    world.check()


@pytest.mark.parametrize("in_doubt", [False, True])
def test_copies_that_people_make_stay_as_they_are(new_world, killed_run, in_doubt):
    world = new_world()
    world.replace(version(1))
    if in_doubt:
        killed_run(world, "LABEL_STUDIO_URL", r"POST .*/import\?", 0, "at once")
    else:
        assert world.run() == ""
    originals = sorted(world.task_ids.values())
    world.label(*originals[::4])
    copies = world.copy(*originals[::2])
    assert [bool(world.tasks[copy]["annotations"]) for copy in copies] == [True, False] * 4
    world.label(copies[1])
    assert world.run() == ""
    world.check()
    world.replace({key: ["replaced"] for key in KEYS[::2]} | STAYS)
    assert world.run() == ""
    world.check()


# -- files ------------------------------------------------------------------------------------


def relabel(world):
    """Have an export write two files, empty one, and bury or delete one."""
    world.replace({f"{name}.json": [name] for name in "abcd"})
    assert world.run() == ""
    a, b, c, d = (world.task_ids[f"{name}.json", 0] for name in "abcd")
    world.label(a, b, c)
    assert world.run() == ""
    world.label(a, d)
    world.unlabel(b)
    world.delete(c)
    return a, b, d


S3, GCS = ("s3", "AWS_ENDPOINT_URL"), ("gcs", "STORAGE_EMULATOR_HOST")
FILES = {
    "S3 put": (S3, {}, r"PUT /[^/]*-out/", 6, [(1, "late"), (3, "at once")]),
    "S3 delete": (S3, {"delete": True}, r"DELETE /[^/]*-out/\d", 2, [(1, "late")]),
    "GCS put": (GCS, {}, r"POST /upload/.*-out/", 6, [(2, "late")]),
    "GCS delete": (GCS, {"delete": True}, r"DELETE /.*-out/o/\d", 2, [(0, "late")]),
}
"""A store and its address, the target's params, and then as above. An export puts the mark, two
tasks with labels, one that has lost its labels, and one that is gone; then the snapshot."""


@pytest.mark.parametrize("request_", FILES)
def test_export_killed_at_a_request_before_more_labels_ends_with_all_of_them(
    new_world, killed_run, kills, request_
):
    (cloud, variable), target, pattern, count, some = FILES[request_]
    for at, lands in cases(count, some, kills):
        world = new_world(cloud, target=target)
        tasks = relabel(world)
        server = killed_run(world, variable, pattern, at, lands)
        world.label(*tasks)
        assert world.run() == ""
        if server.deliver_held():
            assert world.run() == ""
        world.check()


def with_predictions(version):
    tasks = [
        {"data": {"text": key}, "predictions": [{"model_version": name, "result": RESULT}]}
        for key, name in (("a", f"{version}a"), ("b", f"{version}b"))
    ]
    return json.dumps(tasks).encode()


def test_prediction_that_lands_after_its_run_was_killed_is_not_kept(new_world, killed_run):
    world = new_world()
    world.bucket.put("a.json", with_predictions("m1"), "application/json")
    assert world.run() == ""
    (first, second) = sorted(world.tasks)
    theirs = {"task": first, "result": RESULT, "model_version": "theirs"}
    world.app.api.json("POST", "api/predictions/", json=theirs)
    world.bucket.put("a.json", with_predictions("m2"), "application/json")
    server = killed_run(world, "LABEL_STUDIO_URL", "POST /api/predictions/", 1, "late")
    world.bucket.put("a.json", with_predictions("m1"), "application/json")
    assert world.run() == ""
    assert server.deliver_held() == [201]
    assert world.run() == ""

    assert versions_of(world, first) == ["m1a", "theirs"]
    assert versions_of(world, second) == ["m1b"]


def versions_of(world, task_id):
    return sorted(each["model_version"] for each in world.tasks[task_id]["predictions"])

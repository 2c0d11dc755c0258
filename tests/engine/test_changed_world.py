"""Kill a run at any call, change the world, and run again: nothing is lost, nothing doubled."""

import json
from typing import get_type_hints

import pytest

from ls_pipeline.resources.ledger.connection import HeldConnection
from ls_pipeline.resources.ledger.section import Writer
from tests.bench import RESULT, Bench
from tests.engine.test_crashes import SECTIONS, Killed, Killer
from tests.engine.test_load import Wrapped
from tests.people import People, numbered, place

V1 = {"a.json": ["a", "aa"], "b.json": ["b"], "c.json": ["c"]}
V2 = {"a.json": ["a2", "aa2"], "b.json": ["b2"], "c.json": ["c2"]}
V3 = {"a.json": ["a3", "aa3", "aaa3"], "b.json": ["b3"], "c.json": ["c3"]}

WRITERS = {
    kind
    for kind in get_type_hints(HeldConnection).values()
    if isinstance(kind, type) and issubclass(kind, Writer)
}
EFFECTS = {
    *(name for kind in WRITERS for name in vars(kind) if not name.startswith("_")),
    *("import_tasks", "update_task", "delete_task", "add_mark", "raise_mark", "remove_mark"),
    *("add_prediction", "delete_prediction"),
    *("create_project", "create_project_like", "register_storage"),
    *("put", "delete"),
}
"""Calls that change something. A kill before one is a kill after the one before it."""


class KillerAfterEffects(Killer):
    """Counts only the calls that change something."""

    def wrap(self, part):
        return _Part(part, self)


class _Part:
    def __init__(self, part, killer):
        self._part, self._killer = part, killer

    def __getattr__(self, name):
        attribute = getattr(self._part, name)
        if name in SECTIONS:
            return _Part(attribute, self._killer)
        if name not in EFFECTS:
            return attribute

        def call(*args, **kwargs):
            result = attribute(*args, **kwargs)
            self._killer.step()
            return result

        return call


class World:
    """A connection in memory, and what people did to its tasks."""

    def __init__(self, ledger, name="reviews", **params):
        self.bench = Bench(ledger, name, on_delete="delete", **params)
        self.app, self.people = self.bench.app, People()
        self.app.reuses_ids = True

    # -- what happens -----------------------------------------------------------------------

    def replace(self, objects):
        """Have the bucket hold these objects, and no others."""
        for key in self.bench.bucket.objects.keys() - objects.keys():
            self.bench.bucket.delete(key)
        for key, texts in objects.items():
            self.bench.put(key, [{"text": text} for text in texts])

    def label(self, task_id):
        self.app.annotate(task_id, RESULT)
        self.people.remember(self.tasks[task_id])

    def unlabel(self, task_id):
        for annotation in list(self.app.tasks[task_id]["annotations"]):
            self.app.delete_annotation(annotation["id"])
        self.people.remember(self.tasks[task_id])

    def delete(self, task_id):
        task = self.tasks[task_id]
        self.app.delete_task(task_id)
        self.people.forget(task, self.in_bucket.get(place(task)))

    def import_again(self, task):
        """Import a task that was exported, as a person would."""
        body = {name: task[name] for name in ("data", "meta", "annotations")}
        (task_id,) = self.app.import_tasks(task["project"], [body])
        self.people.copies[task_id] = self.tasks[task_id]

    def load(self, killer=None):
        self._run(self.bench.load, self.bench.bucket, killer or KillerAfterEffects())

    def export(self, killer=None):
        self._run(self.bench.export, self.bench.target, killer or KillerAfterEffects())

    def _run(self, run, bucket, killer):
        run(killer.wrap(bucket), app=killer.wrap(self.app), wrap=killer.wrap)

    # -- what is true -----------------------------------------------------------------------

    @property
    def tasks(self):
        """Every task in Label Studio, by id."""
        return {
            task.task_id: task.document
            for project_id in self.app.projects
            for task in self.app.completions(project_id, list(self.app.tasks))
        }

    @property
    def in_bucket(self):
        """(key, row) → text."""
        objects = self.bench.connection_ledger.objects
        texts = {
            key: [content["text"] for content in json.loads(body)]
            for key, body in self.bench.bucket.objects.items()
        }
        return numbered(texts, {key: objects.rows_of(key) for key in texts})

    @property
    def files(self):
        files = self.bench.files.items()
        return {int(key.removesuffix(".json")): json.loads(body) for key, body in files}

    def check(self, *, certain=True):
        self.people.check(self.tasks, self.in_bucket, self.files, certain=certain)


# -- runs that are killed ---------------------------------------------------------------------


def first_load(world):
    world.replace(V1)
    return world.load


def update(world):
    world.replace(V1)
    world.load()
    world.replace(V2)
    return world.load


def deletion(world):
    world.replace(V1)
    world.load()
    world.replace({"a.json": ["a"]})
    return world.load


def export(world):
    world.replace(V1)
    world.load()
    for task_id in (1, 3):
        world.label(task_id)
    return world.export


def tombstones(world):
    world.replace(V1)
    world.load()
    for task_id in (1, 3, 4):
        world.label(task_id)
    world.export()
    world.label(1)
    world.unlabel(3)
    world.delete(4)
    return world.export


RUNS = {
    "first load": (first_load, {}),
    "two projects": (first_load, {"tasks_per_project": 2}),
    "update": (update, {}),
    "deletion": (deletion, {}),
    "export": (export, {}),
    "tombstones": (tombstones, {}),
}
MISTAKABLE = {"update", "deletion"}
"""A task that vanishes under an open update may have been deleted in either version. One that
vanishes under an open deletion counts as deleted by us."""


# -- what changes before the next run ---------------------------------------------------------


def some(world, first):
    """Return the ids of every second task."""
    return sorted(world.tasks.keys() - world.people.copies)[first::2]


def nothing(world):
    pass


def put_back(world):
    world.replace(V1)


def replaced(world):
    world.replace(V3)


def removed(world):
    world.replace({})


def labeled(world):
    for task_id in some(world, 0):
        world.label(task_id)


def deleted_by_hand(world):
    for task_id in some(world, 1):
        world.delete(task_id)


def copied(world):
    for task_id in some(world, 0):
        world.import_again(world.tasks[task_id])


CHANGES = {
    "nothing": [nothing],
    "put back": [put_back],
    "replaced": [replaced],
    "removed": [removed],
    "labeled": [labeled],
    "deleted by hand": [deleted_by_hand],
    "copied": [copied],
    "labeled, put back": [labeled, put_back],
    "labeled, replaced": [labeled, replaced],
    "labeled, removed": [labeled, removed],
    "deleted by hand, put back": [deleted_by_hand, put_back],
    "deleted by hand, replaced": [deleted_by_hand, replaced],
    "labeled, copied, put back": [labeled, copied, put_back],
    "labeled, copied, removed": [labeled, copied, removed],
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("run", RUNS)
def test_run_killed_anywhere_before_changes_loses_and_doubles_nothing(empty_ledger, run, changes):
    prepare, params = RUNS[run]

    def prepared(name):
        world = World(empty_ledger, name, **params)
        return world, prepare(world)

    killer = KillerAfterEffects()
    prepared("undisturbed")[1](killer)
    assert killer.calls > 5
    for at in range(1, killer.calls + 1):
        world, run_killed = prepared(f"killed-{at}")
        with pytest.raises(Killed):
            run_killed(KillerAfterEffects(at))
        for change in CHANGES[changes]:
            change(world)
        for _ in range(2):
            world.load()
            world.export()
            world.bench.time.sleep(600)
        world.check(certain=run not in MISTAKABLE)


# -- what such kills have found ---------------------------------------------------------------


def test_deletion_is_finished_though_a_copy_has_the_id(empty_ledger):
    world = World(empty_ledger)
    world.replace({"a.json": ["a", "aa"]})
    world.load()
    world.replace({"a.json": ["a"]})

    def kill_after_deletion(held):
        def record(update, closing=None):
            if update.dropped:
                raise Killed
            return held.intents.record(update, closing)

        return Wrapped(held, intents=Wrapped(held.intents, record=record))

    with pytest.raises(Killed):
        world.bench.load(wrap=kill_after_deletion)
    world.import_again(world.tasks[1])
    world.replace({"a.json": ["a", "aa"]})
    world.load()

    world.check()

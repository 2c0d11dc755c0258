"""Kill a run before and after every call that leaves the process; then repeat the run."""

from collections import Counter

import pytest

from ls_pipeline.resources.ledger.ledger import Ledger
from tests.bench import RESULT, Bench

pytestmark = pytest.mark.slow

READS = {"in_force", "database", "now", "name", "id", "of", "uri", "scheme"}
SECTIONS = {
    "settings",
    "health",
    "projects",
    "objects",
    "sidecars",
    "intents",
    "binding",
    "exports",
}
"""Parts of a held connection; their calls are calls to the ledger."""


class Killed(BaseException):
    """A stand-in for SIGKILL, which the pipeline must not catch."""


class Killer:
    """Counts the calls to the parts that it wraps, and raises ``Killed`` at one of them."""

    def __init__(self, at=None):
        self.at = at
        self.calls = 0

    def step(self):
        self.calls += 1
        if self.calls == self.at:
            raise Killed

    def wrap(self, part):
        return _KilledPart(part, self)


class _KilledPart:
    def __init__(self, part, killer):
        self._part, self._killer = part, killer

    def __getattr__(self, name):
        attribute = getattr(self._part, name)
        if name in SECTIONS:
            return _KilledPart(attribute, self._killer)
        if name in READS or not callable(attribute):
            return attribute

        def call(*args, **kwargs):
            self._killer.step()
            result = attribute(*args, **kwargs)
            self._killer.step()
            return result

        return call


def first_load(bench, killer):
    bench.load(killer.wrap(bench.bucket), app=killer.wrap(bench.app), wrap=killer.wrap)


def first_export(bench, killer):
    bench.export(killer.wrap(bench.target), app=killer.wrap(bench.app), wrap=killer.wrap)


def fill(bench):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.put("b.json", b"not json")
    bench.put("c.json", {"text": "c"})


def change(bench):
    fill(bench)
    bench.put("d.json", {"text": "old"})
    bench.load()
    bench.put("d.json", {"text": "new"})
    bench.put("a.json", [{"text": "0"}, {"text": "1"}, {"text": "2"}])
    bench.bucket.delete("c.json")


def deletion(bench):
    change(bench)
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": "0"}])


def read_as_blobs(bench):
    fill(bench)
    bench.load()
    bench.set(use_blob_urls=True)


def fill_two_projects(bench):
    bench.set(tasks_per_project=2)
    fill(bench)


def label(bench):
    fill(bench)
    bench.load()
    for key in ("a.json", "c.json"):
        bench.app.annotate(bench.task_id(key), RESULT)


def relabel(bench):
    label(bench)
    bench.export()
    bench.app.annotate(bench.task_id("a.json"), RESULT)


def unlabel_in_two_projects(bench):
    bench.set(tasks_per_project=2)
    relabel(bench)
    bench.app.delete_task(bench.task_id("c.json"))
    bench.deleted = {("c.json", 0)}


CASES = {
    "first load": (fill, first_load),
    "changes and removals": (change, first_load),
    "tasks deleted": (deletion, first_load),
    "quarantine released": (read_as_blobs, first_load),
    "first load of two projects": (fill_two_projects, first_load),
    "first export": (label, first_export),
    "relabeled": (relabel, first_export),
    "task deleted by hand in one of two projects": (unlabel_in_two_projects, first_export),
}


def end_state(bench):
    keys = ("a.json", "b.json", "c.json", "d.json")
    objects = bench.connection_ledger.objects
    ledger = {(key, n) for key in keys for n, row in objects.rows_of(key).items() if row.task_id}
    assert ledger == set(bench.tasks) | bench.deleted
    project_sizes = Counter(task["project"] for task in bench.app.tasks.values())
    assert set(bench.app.projects) == set(bench.connection_ledger.projects.ids().values())
    return bench.tasks, set(bench.reasons), set(bench.target.objects), project_sizes


@pytest.fixture
def ledger(database_url):
    ledger = Ledger(database_url)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("case", CASES)
def test_run_killed_anywhere_and_repeated_ends_the_same(case, ledger):
    prepare, run = CASES[case]

    def prepared(name):
        bench = Bench(ledger, name)
        prepare(bench)
        return bench

    killer, undisturbed = Killer(), prepared("undisturbed")
    run(undisturbed, killer)
    expected = end_state(undisturbed)

    assert killer.calls > 10
    # After each call; before a call is after the one before it. PostgreSQL has every third one.
    every = 2 if ledger.database.engine.dialect.name == "sqlite" else 6
    for at in range(2, killer.calls + 1, every):
        bench = prepared(f"killed-{at}")
        with pytest.raises(Killed):
            run(bench, Killer(at))
        run(bench, Killer())
        assert end_state(bench) == expected, f"killed at call {at}"

"""Stop a pass at every call that leaves the process, before and after it; then run it again."""

from collections import Counter
from contextlib import contextmanager

import pytest

from tests.bench import RESULT, Bench

pytestmark = pytest.mark.slow

READS = {"in_force", "database", "now", "name", "id", "of", "uri", "scheme"}
SECTIONS = {"settings", "health", "projects", "objects", "imports", "exports"}
"""Of a held connection: calls to them are calls of the ledger."""


class Killed(BaseException):
    """No `except` of ours may catch it, as none catches SIGKILL."""


class Doom:
    """Counts calls, and ends everything at one of them."""

    def __init__(self, at=None):
        self.at = at
        self.calls = 0

    def step(self):
        self.calls += 1
        if self.calls == self.at:
            raise Killed

    def over(self, part):
        return _Doomed(part, self)


class _Doomed:
    def __init__(self, part, doom):
        self._part, self._doom = part, doom

    def __getattr__(self, name):
        found = getattr(self._part, name)
        if name in SECTIONS:
            return _Doomed(found, self._doom)
        if name in READS or not callable(found):
            return found

        def call(*args, **how):
            self._doom.step()
            answer = found(*args, **how)
            self._doom.step()
            return answer

        return call


def first_load(bench, doom):
    bench.load(doom.over(bench.bucket), app=doom.over(bench.app), wrap=doom.over)


def first_export(bench, doom):
    bench.export(doom.over(bench.target), app=doom.over(bench.app), wrap=doom.over)


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


def otherwise(bench):
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
    "quarantine freed": (otherwise, first_load),
    "first load of two projects": (fill_two_projects, first_load),
    "first export": (label, first_export),
    "relabeled": (relabel, first_export),
    "task deleted by hand in one of two projects": (unlabel_in_two_projects, first_export),
}


def world(bench):
    rows = {
        key: bench.connection_ledger.objects.rows_of(key)
        for key in ("a.json", "b.json", "c.json", "d.json")
    }
    ledger = {(key, row) for key, found in rows.items() for row in found}
    assert ledger == set(bench.tasks) | bench.deleted
    in_projects = Counter(task["project"] for task in bench.app.tasks.values())
    assert set(bench.app.projects) == set(bench.connection_ledger.projects.ids().values())
    return bench.tasks, set(bench.reasons), set(bench.target.objects), in_projects


@pytest.mark.parametrize("case", CASES)
def test_pass_stopped_anywhere_and_run_again_ends_as_if_never_stopped(case, database_url):
    prepare, run = CASES[case]

    @contextmanager
    def prepared(name):
        bench = Bench(database_url, name)
        prepare(bench)
        yield bench
        bench.ledger.close()

    doom = Doom()
    with prepared("undisturbed") as undisturbed:
        run(undisturbed, doom)
        expected = world(undisturbed)

    assert doom.calls > 10
    for at in range(1, doom.calls + 1):
        with prepared(f"killed-{at}") as bench:
            with pytest.raises(Killed):
                run(bench, Doom(at))
            run(bench, Doom())
            assert world(bench) == expected, f"stopped at call {at}"

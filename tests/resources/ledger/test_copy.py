"""A ledger that was copied to another database continues there as if it had always been there."""

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.copy import copy_ledger
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.records import Intent, Kind
from tests.bench import RESULT, Bench


@pytest.fixture
def bench(tmp_path):
    """Return a connection on SQLite, with records of every kind."""
    bench = Bench(f"sqlite:///{tmp_path}/old.db")
    for key in ("a.json", "\x01 b\x00.json", "ü.json"):
        bench.put(key, {"text": key})
    bench.put("bad.json", b"not json")
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.snapshot()
    with bench.connection_ledger.acquire() as held:
        held.health.record_failure("completions", "It is \x00 down.")
    yield bench
    bench.ledger.close()


@pytest.fixture
def target(database_url):
    target = Ledger(database_url)
    yield target
    target.close()


def quiet(*_):
    """Show no progress."""


def test_everything_is_there_and_nothing_is_done_twice(bench, target):
    with bench.connection_ledger.acquire():
        pass
    copied = copy_ledger(bench.ledger, target, quiet)
    before = dict(bench.app.tasks), dict(bench.target.objects)
    target.database.clock, target.database.sleep = bench.time, bench.time.sleep
    old = bench.connection_ledger
    bench.ledger, bench.connection_ledger = target, target.connection_ledger(bench.name)

    assert (copied["objects"], copied["tasks"], copied["completions"]) == (4, 3, 1)
    assert bench.connection_ledger.settings.in_force() == old.settings.in_force()
    assert bench.connection_ledger.health.of("completions") == old.health.of("completions")
    assert bench.reasons.keys() == {("bad.json", None)}
    assert bench.load().changes == {Change.UNCHANGED: 4}
    assert (bench.export().written, bench.snapshot().is_new) == (0, False)
    assert (bench.app.tasks, bench.target.objects) == before
    old.database.engine.dispose()


def test_new_connections_and_imports_get_new_numbers(bench, target):
    with bench.connection_ledger.acquire() as held:
        held.intents.begin(Intent(Kind.IMPORT, (), "", 1))
    copy_ledger(bench.ledger, target, quiet)
    connection = bench.ledger.connection(bench.name)
    other = connection.model_copy(update={"name": "other"})
    target.save(other, "test")
    with target.acquire("other") as held:
        held.intents.begin(Intent(Kind.IMPORT, (), "", 1))

    ledgers = [target.connection_ledger(name) for name in ("other", "reviews")]
    assert ledgers[0].id > bench.connection_ledger.id
    assert target.names() == ["other", "reviews"]
    assert [len(ledger.intents.open()) for ledger in ledgers] == [1, 1]


def test_ledger_at_work_is_not_copied(bench, target):
    refused = pytest.raises(LedgerError, match="Stop everything first")
    with bench.connection_ledger.acquire(), refused:
        copy_ledger(bench.ledger, target, quiet)

    assert target.names() == []


def test_ledger_with_connections_is_not_written_to(bench, target):
    copy_ledger(bench.ledger, target, quiet)

    with pytest.raises(LedgerError, match="Use an empty database"):
        copy_ledger(bench.ledger, target, quiet)


def test_copy_that_fails_leaves_nothing_behind(bench, target):
    def fail(table, *_):
        if table == "objects":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_ledger(bench.ledger, target, fail)

    assert target.names() == []

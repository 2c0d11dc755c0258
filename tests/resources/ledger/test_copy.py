"""A ledger that moves to another database goes on there as if it had always been there."""

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.copy import copy_ledger
from ls_pipeline.resources.ledger.ledger import Ledger
from tests.bench import RESULT, Bench


@pytest.fixture
def bench(tmp_path):
    """Give a connection on SQLite that has seen everything."""
    bench = Bench(f"sqlite:///{tmp_path}/old.db")
    for key in ("a.json", "\x01 b\x00.json", "ü.json"):
        bench.put(key, {"text": key})
    bench.put("bad.json", b"not json")
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.snapshot()
    bench.account.failed("completions", "It is \x00 down.")
    yield bench
    bench.ledger.engine.dispose()


@pytest.fixture
def target(database_url):
    target = Ledger(database_url)
    yield target
    target.engine.dispose()


def quiet(*_):
    """Nobody looks."""


def test_everything_is_there_and_nothing_is_done_twice(bench, target):
    with bench.account.lease():
        pass
    copied = copy_ledger(bench.ledger, target, quiet)
    before = dict(bench.app.tasks), dict(bench.target.objects)
    target.clock, target.sleep = bench.time, bench.time.sleep
    old = bench.account
    bench.ledger, bench.account = target, target.account(bench.name)

    assert (copied["objects"], copied["tasks"], copied["completions"]) == (4, 3, 1)
    assert bench.account.revision() == old.revision()
    assert bench.account.health("completions") == old.health("completions")
    assert bench.reasons.keys() == {("bad.json", None)}
    assert bench.load().changes == {Change.UNCHANGED: 4}
    assert (bench.export().written, bench.snapshot().is_new) == (0, False)
    assert (bench.app.tasks, bench.target.objects) == before
    old.ledger.engine.dispose()


def test_new_connections_and_attempts_get_new_numbers(bench, target):
    with bench.account.lease() as lease:
        bench.account.open_attempt(lease, 1, 0, [])
    copy_ledger(bench.ledger, target, quiet)
    other = bench.account.revision().connection.model_copy(update={"name": "other"})
    target.save(other, "test")
    account = target.account("other")
    with account.lease() as lease:
        account.open_attempt(lease, 1, 0, [])

    assert account.id > bench.account.id
    assert target.names() == ["other", "reviews"]
    assert [len(target.account(name).attempts()) for name in target.names()] == [1, 1]


def test_ledger_at_work_is_not_copied(bench, target):
    with bench.account.lease(), pytest.raises(LedgerError, match="stop everything first"):
        copy_ledger(bench.ledger, target, quiet)

    assert target.names() == []


def test_ledger_with_connections_is_not_written_to(bench, target):
    copy_ledger(bench.ledger, target, quiet)

    with pytest.raises(LedgerError, match="give an empty database"):
        copy_ledger(bench.ledger, target, quiet)


def test_copy_that_fails_leaves_nothing_behind(bench, target):
    def fail(table, *_):
        if table == "objects":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_ledger(bench.ledger, target, fail)

    assert target.names() == []

"""What SQLite does for the ledger's queries: none reads more than it must."""

import re

import pytest
import sqlalchemy as sa

from tests.assets.conftest import RESULT

GROWING = ("objects", "milestones", "tasks", "quarantine", "completions")


@pytest.fixture
def plans(bench):
    """Give (statement, plan) of all that is asked of the ledger."""
    asked = {}

    @sa.event.listens_for(bench.ledger.engine, "before_cursor_execute")
    def _keep(db, cursor, statement, values, context, many):
        if re.match("SELECT|UPDATE|DELETE|INSERT", statement):
            asked.setdefault(statement, values[0] if many else values)

    yield lambda: {
        statement: [row[3] for row in _explained(bench, statement, values)]
        for statement, values in list(asked.items())
    }
    sa.event.remove(bench.ledger.engine, "before_cursor_execute", _keep)


def _explained(bench, statement, values):
    db = bench.ledger.engine.raw_connection()
    try:
        return db.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    finally:
        db.close()


READ_WHOLE = {
    # A thousandth of what is listed; they are written anew when a range changed.
    "DELETE FROM milestones",
    # Whether there is any: one row.
    "SELECT tasks.task_id FROM tasks",
    'SELECT quarantine."key" FROM quarantine',
    # What is quarantined is few, and those that other settings would read otherwise are sought.
    'SELECT DISTINCT quarantine."key" FROM quarantine',
    # Compared with Label Studio's own count, once a pass.
    (
        "SELECT count(*) AS count_1, coalesce(sum(completions.annotations), ?) AS coalesce_1 "
        "FROM completions"
    ),
}
"""The queries that go through all of a connection's rows."""


def test_passes_read_of_the_ledger_what_they_ask_for(bench, plans):
    for name in "abc":
        bench.put(f"{name}.json", {"text": name})
    bench.put("bad.json", b"{")
    bench.load()
    bench.put("a.json", {"text": "other"})
    bench.bucket.delete("b.json")
    bench.load()
    for task in list(bench.app.tasks):
        bench.app.annotate(task, RESULT)
    for again in (bench.export, bench.snapshot, bench.load, bench.export):
        again()
    tables = "|".join(GROWING)
    whole = re.compile(rf"SCAN ({tables})\b|SEARCH ({tables}) USING .*\(connection=\?\)$")
    found = {
        " ".join(statement.split()).partition(" WHERE")[0]
        for statement, plan in plans().items()
        if any(map(whole.match, plan))
    }

    assert found == READ_WHOLE

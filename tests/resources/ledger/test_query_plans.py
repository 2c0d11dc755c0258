"""What databases do for the ledger's queries: none reads more than it must."""

import re

import pytest
import sqlalchemy as sa

from tests.bench import RESULT, Bench

GROWING = ("objects", "milestones", "tasks", "quarantine", "completions")


def asked_of(ledger):
    """Give a place where each statement will be, with its values, that the ledger is asked."""
    asked = {}

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def _keep(db, cursor, statement, values, context, many):
        if re.match("SELECT|UPDATE|DELETE|INSERT", statement):
            asked.setdefault(statement, values[0] if many else values)

    return asked


def live(bench):
    """Have all kinds of passes ask what they ask."""
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


def begin_of(statement):
    return " ".join(statement.split()).partition(" WHERE")[0]


READ_WHOLE = {
    # A thousandth of what is listed; they are written anew when a range changed.
    "DELETE FROM milestones",
    # Whether there is any: one row.
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


def test_passes_read_of_the_ledger_what_they_ask_for(bench):
    asked = asked_of(bench.ledger)
    live(bench)
    tables = "|".join(GROWING)
    whole = re.compile(rf"SCAN ({tables})\b|SEARCH ({tables}) USING .*\(connection=\?\)$")
    db = bench.ledger.engine.raw_connection()
    found = {
        begin_of(statement)
        for statement, values in asked.items()
        for row in db.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)
        if whole.match(row[3])
    }
    db.close()

    assert found == READ_WHOLE


FILL = (
    "INSERT INTO objects SELECT 1, 'A/' || n, 'v', 1, 'loaded' FROM generate_series(1, 20000) n",
    "INSERT INTO tasks SELECT 1, 'A/' || n, 0, 'v', 'd', n FROM generate_series(10, 20000) n",
    "INSERT INTO completions SELECT 1, n, '', 'd', 'u', 1 FROM generate_series(10, 20000) n",
    "INSERT INTO milestones SELECT 1, 'A/' || n, '', 0, 0 FROM generate_series(1, 20000) n",
    (
        "INSERT INTO quarantine SELECT 1, 'A/' || n, 0, 'v', '', 'json' "
        "FROM generate_series(1, 20000) n"
    ),
    "ANALYZE",
)
"""Enough of everything that PostgreSQL weighs what a reading costs, and knows how much there is."""


@pytest.mark.server
def test_postgresql_reads_of_a_grown_ledger_what_it_is_asked_for(postgresql):
    bench = Bench(postgresql)
    asked = asked_of(bench.ledger)
    live(bench)
    tables = "|".join(GROWING)
    whole = re.compile(
        rf"Seq Scan on ({tables})\b|on ({tables})\b[^\n]*\n *Index Cond: \(connection = 1\)"
    )
    with bench.ledger.engine.connect() as db:
        for statement in FILL:
            db.exec_driver_sql(statement)
        found = {
            begin_of(statement)
            for statement, values in list(asked.items())
            if whole.search("\n".join(db.exec_driver_sql(f"EXPLAIN {statement}", values).scalars()))
        }
    bench.ledger.engine.dispose()

    assert {re.sub(r"%\(\w+\)s(::\w+)?", "?", one) for one in found} == {
        one.replace('"key"', "key") for one in READ_WHOLE
    }

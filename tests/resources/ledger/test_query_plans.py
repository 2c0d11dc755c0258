"""What databases do for the ledger's queries: no query reads more than it must."""

import re

import pytest
import sqlalchemy as sa

from tests.bench import RESULT, Bench

GROWING = ("objects", "range_boundaries", "tasks", "quarantine", "completions")


def statements_of(ledger):
    """Return a dict that collects each statement that the ledger runs, with its values."""
    statements = {}

    @sa.event.listens_for(ledger.database.engine, "before_cursor_execute")
    def _keep(db, cursor, statement, values, context, many):
        if re.match("SELECT|UPDATE|DELETE|INSERT", statement):
            statements.setdefault(statement, values[0] if many else values)

    return statements


def live(bench):
    """Do runs of all kinds, so that the ledger runs all of its statements."""
    for name in "abc":
        bench.put(f"{name}.json", {"text": name})
    bench.put("bad.json", b"{")
    bench.load()
    bench.put("a.json", {"text": "other"})
    bench.bucket.delete("b.json")
    bench.load()
    for task in list(bench.app.tasks):
        bench.app.annotate(task, RESULT)
    for run in (bench.export, bench.snapshot, bench.load, bench.export):
        run()


def begin_of(statement):
    return " ".join(statement.split()).partition(" WHERE")[0]


READ_WHOLE = {
    # A thousandth of what is listed; all are written again when a range changed.
    "DELETE FROM range_boundaries",
    # Whether the quarantine is empty: one row.
    'SELECT quarantine."key" FROM quarantine',
    # The quarantine is small; this finds what is due, or read in another way by now.
    'SELECT quarantine."key", max(quarantine.failures) AS max_1 FROM quarantine',
    # Compared with Label Studio's own count, once a run.
    (
        "SELECT count(*) AS count_1, coalesce(sum(completions.annotations), ?) AS coalesce_1 "
        "FROM completions"
    ),
    # Once for each new or restored ledger, and for each new target.
    (
        'SELECT tasks."key", tasks."row", tasks.version, tasks.digest, tasks.task_id, '
        "tasks.position, tasks.content, tasks.row_key FROM tasks"
    ),
    "SELECT completions.task_id FROM completions",
    "UPDATE completions SET updated_at=?, digest=?, version=?",
}
"""The queries that go through all of a connection's rows."""


def test_runs_read_only_the_rows_that_they_need(bench):
    statements = statements_of(bench.ledger)
    live(bench)
    tables = "|".join(GROWING)
    whole = re.compile(rf"SCAN ({tables})\b|SEARCH ({tables}) USING .*\(connection=\?\)$")
    db = bench.ledger.database.engine.raw_connection()
    reading_all = {
        begin_of(statement)
        for statement, values in statements.items()
        for row in db.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)
        if whole.match(row[3])
    }
    db.close()

    assert reading_all == READ_WHOLE


FILL = (
    "INSERT INTO objects SELECT 1, 'A/' || n, 'v', 1, 'loaded', 1 FROM generate_series(1, 20000) n",
    (
        "INSERT INTO tasks SELECT 1, 'A/' || n, 0, 'v', 'd', n, 0, 'c', '' "
        "FROM generate_series(10, 20000) n"
    ),
    "INSERT INTO completions SELECT 1, n, '', 'd', 'u', 1, '', 9 FROM generate_series(10, 20000) n",
    "INSERT INTO range_boundaries SELECT 1, 'A/' || n, '', 0, 0 FROM generate_series(1, 20000) n",
    (
        "INSERT INTO quarantine SELECT 1, 'A/' || n, 0, 'v', '', 'json', 0, 0, 0 "
        "FROM generate_series(1, 20000) n"
    ),
    "ANALYZE",
)
"""Enough rows that PostgreSQL chooses by cost, and statistics that show how many there are."""


@pytest.mark.server
def test_postgresql_reads_only_the_rows_that_runs_need(postgresql):
    bench = Bench(postgresql)
    statements = statements_of(bench.ledger)
    live(bench)
    tables = "|".join(GROWING)
    whole = re.compile(
        rf"Seq Scan on ({tables})\b|on ({tables})\b[^\n]*\n *Index Cond: \(connection = 1\)"
    )
    with bench.ledger.database.engine.connect() as db:
        for statement in FILL:
            db.exec_driver_sql(statement)
        reading_all = {
            begin_of(statement)
            for statement, values in list(statements.items())
            if whole.search("\n".join(db.exec_driver_sql(f"EXPLAIN {statement}", values).scalars()))
        }
    bench.ledger.close()

    expected = {begin.replace('"key"', "key").replace('"row"', "row") for begin in READ_WHOLE}
    assert {re.sub(r"%\(\w+\)s(::\w+)?", "?", begin) for begin in reading_all} == expected

"""A ledger of any version becomes one of this version: whole or not at all, and nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from ls_pipeline.domain.diff import KnownObject, State
from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import MIGRATIONS, known_schemas, schema_of
from ls_pipeline.resources.ledger.tables import metadata
from tests.resources.ledger.released_ledgers import VERSIONS, lay_down


@pytest.fixture
def engine(database_url):
    """Give a way around the ledger, into the empty database that it will be in."""
    if database_url.startswith("sqlite"):
        Path(sa.make_url(database_url).database).parent.mkdir()
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def open_and_close(url):
    Ledger(url).engine.dispose()


def rows(engine):
    """Give the rows of all tables, as what they are in the database."""
    everything = sa.MetaData()
    everything.reflect(engine)
    with engine.connect() as db:
        return {
            (table.name, column.name): sorted(map(repr, db.scalars(sa.select(column))))
            for table in everything.sorted_tables
            for column in table.columns
        }


def structure(engine):
    """Describe all tables by what tells them apart to a query."""
    inspector = sa.inspect(engine)
    return {
        table: {
            "columns": {
                column["name"]: (
                    column["type"].compile(engine.dialect),
                    column["nullable"],
                    column["default"],
                )
                for column in inspector.get_columns(table)
            },
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "references": inspector.get_foreign_keys(table),
            "indexes": sorted(
                (index["name"], index["unique"], *index["column_names"], _where(index))
                for index in inspector.get_indexes(table)
            ),
            "rowid": _has_rowid(engine, table),
        }
        for table in metadata.tables
    }


def _where(index):
    return [str(value) for name, value in index["dialect_options"].items() if "where" in name]


def _has_rowid(engine, table):
    if engine.dialect.name != "sqlite":
        return None
    with engine.connect() as db:
        return (
            "WITHOUT ROWID"
            not in db.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE name = ?", (table,)
            ).scalar()
        )


def test_schemas_follow_each_other_as_they_are_numbered():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    walked = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]

    assert walked[::-1] == known_schemas()


@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_ledger_ends_with_the_tables_of_the_code(engine, database_url, version):
    metadata.create_all(engine)
    expected = structure(engine)
    metadata.drop_all(engine)
    if version:
        lay_down(version, database_url)
    open_and_close(database_url)

    assert structure(engine) == expected


def _moved(after, table, column):
    """Give what is in another table now, and nothing of each row that had nothing."""
    there = after[MOVED[table, column]]
    return sorted([*there, *["None"] * (len(after[table, "id"]) - len(there))])


MOVED = {("connections", "project_id"): ("projects", "project_id")}


@pytest.mark.parametrize("version", VERSIONS)
def test_released_ledger_keeps_all_its_rows(engine, database_url, version):
    lay_down(version, database_url)
    before = rows(engine)
    open_and_close(database_url)
    after = rows(engine)

    assert all(before.values())
    assert {column: after.get(column) or _moved(after, *column) for column in before} == before


@pytest.mark.parametrize("version", VERSIONS)
def test_released_ledger_goes_on(engine, database_url, version):
    lay_down(version, database_url)
    ledger = Ledger(database_url)
    account = ledger.account("reviews")
    known = {one.key: one.state for one in account.known()}

    assert ledger.names() == ["reviews"]
    assert [one.number for one in account.history()] == [2, 1]
    assert list(known) == sorted(known, key=str.encode)
    assert known["\x01 b.json"] is State.LOADED
    assert (account.count_tasks(), account.count_quarantined()) == (6, 2)
    assert account.projects() == {1: 1}
    assert [one.looks for one in account.attempts()] == [1]
    assert account.count_exported() == (1, 1)
    assert account.health("completions").failure == "It is down."
    with account.lease() as lease:
        account.record(lease, finished=[KnownObject("new.json", "v", 1, State.LOADED)])
        account.open_attempt(lease, 1, 0, [])
    assert len(account.attempts()) == 2
    ledger.engine.dispose()


def test_ledger_of_a_newer_version_is_refused_and_left_alone(engine, database_url):
    open_and_close(database_url)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE ledger_schema SET version_num = '9999'")
    before = structure(engine)
    with pytest.raises(LedgerError, match="its schema is 9999, and this version's") as refused:
        Ledger(database_url)

    assert "***" in str(refused.value) or engine.dialect.name == "sqlite"
    assert structure(engine) == before
    with engine.connect() as db:
        assert schema_of(db) == "9999"


def test_dagsters_own_number_in_the_same_database_is_left_alone(engine, database_url):
    with engine.begin() as db:
        db.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        db.exec_driver_sql("INSERT INTO alembic_version VALUES ('7e2f3204cf8e')")
    open_and_close(database_url)
    open_and_close(database_url)
    with engine.connect() as db:
        theirs = db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        ours = schema_of(db)

    assert (theirs, ours) == ("7e2f3204cf8e", known_schemas()[-1])


@pytest.mark.slow
def test_ledger_of_this_version_opens_without_alembic(engine, database_url):
    open_and_close(database_url)
    opening = (
        "import sys\n"
        "from ls_pipeline.resources.ledger.ledger import Ledger\n"
        "Ledger(sys.argv[1]).engine.dispose()\n"
        "sys.exit('alembic' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", opening, database_url], check=True)


KILLED = """
import os, signal, sys
import alembic.command
import sqlalchemy as sa
from ls_pipeline.resources.ledger.ledger import Ledger

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def kill(*_):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)

for at in range(1, 1000):
    if (child := os.fork()) == 0:
        steps = at
        Ledger(sys.argv[1]).engine.dispose()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        sys.exit(f"at {at} it was done")
    steps = 0
    engine = sa.create_engine(sys.argv[1])
    print(at, *sorted(sa.inspect(engine).get_table_names()))
    engine.dispose()
"""
"""Kills one process after the other, each a statement later than the one before."""


@pytest.mark.slow
@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_process_killed_at_any_statement_leaves_what_was_there(engine, database_url, version):
    if version:
        lay_down(version, database_url)
    there = sorted(sa.inspect(engine).get_table_names())
    command = [sys.executable, "-c", KILLED, database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    left = [line.split()[1:] for line in done.stdout.splitlines()]

    assert "it was done" in done.stderr
    assert len(left) > len(metadata.tables)
    assert left == [there] * len(left)
    with engine.connect() as db:
        assert schema_of(db) == known_schemas()[-1]

"""A ledger gets this version's tables, whole or not at all; another version's is refused."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from ls_pipeline.domain.errors import LedgerError
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import MIGRATIONS, SCHEMAS, own_schema, schema_of
from ls_pipeline.resources.ledger.tables import metadata


@pytest.fixture
def engine(database_url):
    """Return an engine for the empty database that the ledger will be in."""
    if database_url.startswith("sqlite"):
        Path(sa.make_url(database_url).database).parent.mkdir()
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def open_and_close(url):
    Ledger(url).close()


def structure(engine):
    """Return what matters of all tables to a query."""
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


def test_schemas_are_the_ones_that_alembic_walks():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    walked = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]

    assert tuple(walked[::-1]) == SCHEMAS


def test_number_of_the_first_schema_follows_its_tables():
    statements = [
        str(item.compile(dialect=sqlite.dialect()))
        for table in metadata.sorted_tables
        for item in (CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=str)))
    ]
    digest = hashlib.sha256("\n".join(statements).encode()).hexdigest()[:8]

    assert (f"0001_{digest}",) == SCHEMAS


def test_ledger_begins_with_the_tables_of_the_code(engine, database_url):
    metadata.create_all(engine)
    expected = structure(engine)
    metadata.drop_all(engine)
    open_and_close(database_url)

    assert structure(engine) == expected


@pytest.mark.parametrize("change", ["DROP TABLE ledger_schema", "DELETE FROM ledger_schema"])
def test_ledger_whose_schema_has_no_number_is_refused(engine, database_url, change):
    open_and_close(database_url)
    with engine.begin() as db:
        db.exec_driver_sql(change)
    before = structure(engine)
    with pytest.raises(LedgerError, match="no number of their schema in ledger_schema"):
        Ledger(database_url)

    assert structure(engine) == before


@pytest.mark.parametrize("number", ["0001", "0007", "0001_ffffffff"])
def test_ledger_from_before_the_first_release_is_refused(engine, database_url, number):
    open_and_close(database_url)
    with engine.begin() as db:
        update = sa.text("UPDATE ledger_schema SET version_num = :number")
        db.execute(update, {"number": number})
    before = structure(engine)
    with pytest.raises(LedgerError, match="from before the first release") as refused:
        Ledger(database_url)

    assert f"its schema is {number}, and this version's {own_schema()}" in str(refused.value)
    assert refused.value.hint.startswith("Move it away")
    assert structure(engine) == before


def test_ledger_of_a_newer_version_is_refused_and_left_alone(engine, database_url):
    open_and_close(database_url)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE ledger_schema SET version_num = '9999_00000000'")
    before = structure(engine)
    with pytest.raises(
        LedgerError, match="its schema is 9999_00000000, and this version's"
    ) as refused:
        Ledger(database_url)

    assert "***" in str(refused.value) or engine.dialect.name == "sqlite"
    assert structure(engine) == before
    with engine.connect() as db:
        assert schema_of(db) == "9999_00000000"


def test_dagsters_own_number_in_the_same_database_is_left_alone(engine, database_url):
    with engine.begin() as db:
        db.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        db.exec_driver_sql("INSERT INTO alembic_version VALUES ('7e2f3204cf8e')")
    open_and_close(database_url)
    open_and_close(database_url)
    with engine.connect() as db:
        dagsters = db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        own = schema_of(db)

    assert (dagsters, own) == ("7e2f3204cf8e", own_schema())


@pytest.mark.slow
def test_ledger_of_this_version_opens_without_alembic(engine, database_url):
    open_and_close(database_url)
    opening = (
        "import sys\n"
        "from ls_pipeline.resources.ledger.ledger import Ledger\n"
        "Ledger(sys.argv[1]).close()\n"
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
        Ledger(sys.argv[1]).close()
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
def test_process_killed_at_any_statement_leaves_what_was_there(engine, database_url):
    before = sorted(sa.inspect(engine).get_table_names())
    command = [sys.executable, "-c", KILLED, database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    left = [line.split()[1:] for line in done.stdout.splitlines()]

    assert "it was done" in done.stderr
    assert len(left) > len(metadata.tables)
    assert left == [before] * len(left)
    with engine.connect() as db:
        assert schema_of(db) == own_schema()

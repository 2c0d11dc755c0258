import json
import sqlite3

from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import own_schema
from tests.bench import Bench
from tests.resources.ledger.released_ledgers import lay_down


def test_ledger_is_copied_and_usable(environment, tmp_path):
    bench = Bench(database_url())
    url = f"sqlite:///{tmp_path}/new.db"
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", url, "--json"])
    new = Ledger(url)

    assert done.exit_code == 0, done.output
    assert sum(json.loads(done.stdout)["rows"].values()) == 2
    assert new.names() == [bench.name]
    for ledger in (bench.ledger, new):
        ledger.engine.dispose()


def test_unknown_database_is_reported(environment):
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", "nosql://x"])

    assert (done.exit_code, "can't be opened" in done.stderr) == (1, True)


def test_ledger_is_migrated_once_and_both_runs_report_it(environment):
    lay_down("0.1.0", database_url())
    first, second = (CliRunner().invoke(main, ["ledger", "migrate"]) for _ in range(2))

    assert first.stdout == f"The ledger had no schema number, and now has schema {own_schema()}.\n"
    assert "nothing was changed" in second.stdout


def test_migration_reports_both_schema_numbers(environment):
    lay_down("0.1.0", database_url())
    with sqlite3.connect(database_url().removeprefix("sqlite:///")) as db:
        db.execute("CREATE TABLE ledger_schema (version_num VARCHAR(32) PRIMARY KEY)")
        db.execute("INSERT INTO ledger_schema VALUES ('0001')")
    db.close()
    done = CliRunner().invoke(main, ["ledger", "migrate"])

    assert done.stdout == f"The ledger had schema 0001, and now has schema {own_schema()}.\n"


def test_ledger_of_a_newer_version_is_refused_in_a_sentence(environment):
    CliRunner().invoke(main, ["ledger", "migrate"])
    with sqlite3.connect(database_url().removeprefix("sqlite:///")) as db:
        db.execute("UPDATE ledger_schema SET version_num = '9999'")
    db.close()
    done = CliRunner().invoke(main, ["ledger", "migrate"])

    assert (done.exit_code, "install the newer version again" in done.stderr) == (1, True)

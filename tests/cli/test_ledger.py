import json
import sqlite3

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.ledger.schema import own_schema
from tests.bench import Bench


def set_schema(number):
    with sqlite3.connect(database_url().removeprefix("sqlite:///")) as db:
        db.execute("UPDATE ledger_schema SET version_num = ?", (number,))
    db.close()


def test_ledger_is_copied_and_usable(environment, tmp_path):
    bench = Bench(database_url())
    url = f"sqlite:///{tmp_path}/new.db"
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", url, "--json"])
    new = Ledger(url)

    assert done.exit_code == 0, done.output
    assert sum(json.loads(done.stdout)["rows"].values()) == 3
    assert new.names() == [bench.name]
    for ledger in (bench.ledger, new):
        ledger.close()


def test_unknown_database_is_reported(environment):
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", "nosql://x"])

    assert (done.exit_code, "can't be used: it names 'nosql'" in done.stderr) == (1, True)


def test_empty_ledger_gets_its_tables_once(environment):
    first, second = (CliRunner().invoke(main, ["ledger", "migrate"]) for _ in range(2))

    assert first.stdout == f"The ledger was empty, and now has schema {own_schema()}.\n"
    assert "nothing was changed" in second.stdout


@pytest.mark.parametrize("number", ["0001", "0007"])
def test_ledger_from_before_the_first_release_is_refused_in_a_sentence(environment, number):
    CliRunner().invoke(main, ["ledger", "migrate"])
    set_schema(number)
    done = CliRunner().invoke(main, ["ledger", "migrate"])

    assert done.exit_code == 1
    assert (
        f"is from before the first release of ls-pipeline (its schema is {number}," in done.stderr
    )
    assert "Move it away and add the connections again" in done.stderr


def test_ledger_of_a_newer_version_is_refused_in_a_sentence(environment):
    CliRunner().invoke(main, ["ledger", "migrate"])
    set_schema("9999_00000000")
    done = CliRunner().invoke(main, ["ledger", "migrate"])

    assert (done.exit_code, "Install the newer version again" in done.stderr) == (1, True)

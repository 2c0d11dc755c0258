"""What is wrong with Dagster's home or database is one sentence, in any command."""

import json

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.context import CliContext, create_dagster_home
from ls_pipeline.cli.main import main
from ls_pipeline.settings.validation import build_connection

POSTGRES = "storage:\n  postgres:\n    postgres_url: {url}\n"


@pytest.fixture
def file(environment, tmp_path):
    environment.delenv("DAGSTER_HOME", raising=False)
    environment.setenv("LS_PIPELINE_HOME", str(tmp_path / "home"))
    source = {"type": "s3", "path": "bucket"}
    ledger = CliContext().ledger
    ledger.save(build_connection("cats", source=source, target=None, project="Cats"), "test")
    ledger.close()
    return create_dagster_home() / "dagster.yaml"


def run(*words):
    done = CliRunner().invoke(main, words)
    assert "Traceback" not in done.output
    return done


def dagster_check():
    checks = json.loads(run("doctor", "--json").stdout)["general"]
    (check,) = [check for check in checks if check["check"] == "dagster"]
    return check


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:s3cret@127.0.0.1:9/dagster", "{env: DAGSTER_URL}"]
)
def test_url_in_the_ledgers_form_is_refused_by_name(file, environment, url):
    environment.setenv("DAGSTER_URL", "postgresql+psycopg://me:s3cret@127.0.0.1:9/dagster")
    file.write_text(POSTGRES.format(url=url))
    done, check = run("sync", "cats"), dagster_check()

    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: Dagster's storage ({file}) can't be used: ")
    assert "postgresql+psycopg://, and Dagster needs postgresql://." in done.stderr
    assert (check["state"], check["says"] in done.stderr) == ("failed", True)
    assert "s3cret" not in done.output + str(check)


@pytest.mark.parametrize("content", ["storage: [", "storage:\n  no_such_storage: {}\n", "[1]"])
def test_file_that_dagster_refuses_is_a_sentence(file, content):
    file.write_text(content)
    done = run("sync", "cats")

    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: Dagster's storage ({file}) can't be used: ")
    assert dagster_check()["state"] == "failed"


def test_storage_that_is_no_database_is_a_sentence(file):
    folder = file.parent / "history"
    folder.mkdir()
    (folder / "runs.db").write_bytes(b"no database" * 1000)
    done = run("sync", "cats")

    assert done.exit_code == 1
    assert "file is not a database" in done.stderr
    assert dagster_check()["state"] == "failed"


def test_storage_that_fails_in_mid_run_is_a_sentence(file, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dagster.materialize", fail)
    done = run("sync", "cats")

    assert done.exit_code == 1
    assert "can't be used: [Errno 28] No space left on device" in done.stderr


def test_good_storage_is_ok(file):
    assert dagster_check()["state"] == "ok"

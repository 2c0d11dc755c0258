"""The command line, as far as it needs no server."""

import json

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main

TEXT = '<View><Text name="t" value="$text"/></View>'


@pytest.fixture
def run(environment):
    environment.setenv("COLUMNS", "200")

    def run(*words):
        return CliRunner().invoke(main, words)

    return run


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.xml"
    file.write_text(TEXT)
    return str(file)


def add(run, config, *more):
    words = ("--source", "s3", "--source-path", "bucket", "--project", "Cats")
    return run("connections", "add", "cats", *words, "--label-config", config, *more)


def test_added_connection_is_shown_with_its_params(run, config):
    params = '{"prefix": "in", "regex": ".*png", "use_blob_urls": true}'
    added = add(run, config, "--source-params", params)
    shown = json.loads(run("connections", "show", "cats").stdout)

    assert (added.exit_code, shown["source"]["params"]["regex"]) == (0, ".*png")
    assert (shown["project"], shown["revision"], shown["label_config"]) == ("Cats", 1, TEXT)


def test_connections_are_listed(run, config):
    add(run, config, "--source-params", '{"prefix": "in"}')

    assert "s3: bucket/in" in run("connections", "list").stdout
    assert list(json.loads(run("connections", "list", "--json").stdout)["connections"]) == ["cats"]


def test_removed_connection_is_gone(run, config):
    add(run, config)
    run("connections", "remove", "cats")

    assert json.loads(run("connections", "list", "--json").stdout) == {"connections": {}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source-params", "{"], "--source-params is not JSON"),
        (["--source-params", "[]"], "--source-params is a JSON object"),
        (["--source-params", '{"regx": "a"}'], "did you mean 'regex'?"),
        (["--source-params", '{"regex": "("}'], "is not RE2"),
        (["--target", "s3-completions", "--target-path", "bucket"], "overlap"),
        (["--target-path", "labels"], "need --target"),
    ],
)
def test_wrong_connection_is_refused_with_exit_code_2_and_not_stored(run, config, words, said):
    refused = add(run, config, *words)

    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr
    assert json.loads(run("connections", "list", "--json").stdout) == {"connections": {}}


def test_all_faults_are_said_in_one_line(run, config):
    refused = add(run, config, "--source-params", '{"a": 1, "regex": "("}', "--target-path", "b")

    assert len(refused.stderr.strip().splitlines()) == 1
    assert all(said in refused.stderr for said in ("'a'", "RE2", "--target"))


@pytest.mark.parametrize("words", [["sync", "x"], ["connections", "show", "x"]])
def test_unknown_connection_is_named_with_exit_code_2(run, words):
    refused = run(*words)

    assert (refused.exit_code, "no connection 'x'" in refused.stderr) == (2, True)


def test_sync_without_connections_says_how_to_add_one(run):
    assert "connections add" in run("sync").stdout


@pytest.mark.parametrize(
    "words", [[], ["connections"], ["connections", "add"], ["sync"], ["doctor"], ["demo"]]
)
def test_every_command_has_help(run, words):
    assert run(*words, "--help").exit_code == 0


def test_demo_counts_only_the_unattended_circle(run):
    assert run("demo", "--json").exit_code == 2


def test_label_config_that_is_no_text_is_a_fault(run, tmp_path):
    file = tmp_path / "config.xml"
    file.write_bytes(b"\xff\xfe")
    refused = add(run, str(file))

    assert (refused.exit_code, "can't be read" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LS_PIPELINE_HOME", "/dev/null/home"),
        ("LS_PIPELINE_DATABASE_URL", "nonsense"),
        ("LS_PIPELINE_DATABASE_URL", "nodb://me:s3cret@host/ledger"),
    ],
)
def test_ledger_that_can_not_be_opened_is_one_sentence_without_secrets(
    run, environment, variable, value
):
    environment.setenv(variable, value)
    failed = run("connections", "list")

    assert (failed.exit_code, "can't be opened" in failed.stderr) == (1, True)
    assert "s3cret" not in failed.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["statsu"], "'status'"),
        (["sync", "--jsn"], "--json"),
        (["connections", "lst"], "'list'"),
        (["quarantine", "rety"], "'retry'"),
    ],
)
def test_mistake_proposes_what_may_have_been_meant(words, meant):
    done = CliRunner().invoke(main, words)

    assert (done.exit_code, "Did you mean" in done.stderr, meant in done.stderr) == (2, True, True)

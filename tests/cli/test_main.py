"""Commands that need no server."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.resources.environment import home
from ls_pipeline.settings.params import SourceParams, TargetParams
from tests.cli.test_secrets import full_words
from tests.e2e.conftest import PROGRAM

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
    ("words", "text"),
    [
        (["--source-params", "{"], "--source-params is not JSON"),
        (["--source-params", "[]"], "--source-params is not a JSON object"),
        (["--source-params", '{"regx": "a"}'], "did you mean 'regex'?"),
        (["--source-params", '{"regex": "("}'], "is not valid RE2"),
        (["--target", "s3-completions", "--target-path", "bucket"], "overlap"),
        (["--target-path", "labels"], "need --target"),
    ],
)
def test_wrong_connection_is_refused_with_exit_code_2_and_not_stored(run, config, words, text):
    refused = add(run, config, *words)

    assert (refused.exit_code, text in refused.stderr) == (2, True), refused.stderr
    assert json.loads(run("connections", "list", "--json").stdout) == {"connections": {}}


def test_all_errors_are_in_one_line(run, config):
    refused = add(run, config, "--source-params", '{"a": 1, "regex": "("}', "--target-path", "b")

    assert len(refused.stderr.strip().splitlines()) == 1
    assert all(text in refused.stderr for text in ("'a'", "RE2", "--target"))


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


def test_demo_prints_json_only_with_once(run):
    assert run("demo", "--json").exit_code == 2


def test_label_config_that_is_not_text_is_an_error(run, tmp_path):
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

    assert failed.exit_code == 1
    assert re.search("can't be (opened|used)", failed.stderr)
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
def test_mistake_suggests_what_was_meant(words, meant):
    done = CliRunner().invoke(main, words)

    assert (done.exit_code, "Did you mean" in done.stderr, meant in done.stderr) == (2, True, True)


def commands(group=main, path=()):
    """Yield every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_every_command_has_json_except_servers_and_those_that_print_it_anyway():
    without = {
        words
        for words, command in commands()
        if not any("--json" in param.opts for param in command.params)
    }

    assert without == {"start", "webhooks", "metrics", "connections schema", "connections show"}


def test_help_has_no_markers_of_click(run):
    helps = [run(*words.split(), "--help").output for words in ["", *dict(commands())]]

    assert not [shown for shown in helps if "\b" in shown]


def test_help_of_adding_names_every_param(run):
    shown = run("connections", "add", "--help").output
    params = [*SourceParams.model_fields, *TargetParams.model_fields]

    assert [name for name in params if name not in shown] == []


def test_changes_are_json_on_demand(run, config):
    params = ("--source-params", '{"prefix": "in"}')
    answers = [
        json.loads(done.stdout)["connections"]["cats"]
        for done in (
            add(run, config, "--json"),
            add(run, config, *params, "--dry-run", "--json"),
            add(run, config, *params, "--json"),
            add(run, config, *params, "--json"),
            run("connections", "disable", "cats", "--json"),
        )
    ]

    assert [(answer["stored"], answer["revision"]) for answer in answers] == [
        (True, 1),
        (False, 1),
        (True, 2),
        (False, 2),
        (True, 3),
    ]
    assert answers[2]["changes"] == ["source.params.prefix: '' → 'in'"]


def test_history_and_removal_are_json_on_demand(run, config):
    add(run, config)
    add(run, config, "--source-params", '{"prefix": "in"}')
    revisions = json.loads(run("connections", "history", "cats", "--json").stdout)["revisions"]
    removed = json.loads(run("connections", "remove", "cats", "--json").stdout)

    assert [(entry["revision"], len(entry["changes"])) for entry in revisions] == [(2, 1), (1, 0)]
    assert removed == {"connection": "cats", "removed": True, "notes": []}


def test_title_that_looks_like_markup_is_listed_as_it_is(run, config):
    add(run, config, "--project", "Cats [/b]")

    assert "Cats [/b]" in run("connections", "list").stdout


def completed(environment, words):
    """Return what a shell completes the last word to."""
    environment.setenv("_LS_PIPELINE_COMPLETE", "bash_complete")
    environment.setenv("COMP_WORDS", words)
    environment.setenv("COMP_CWORD", str(words.count(" ")))
    return CliRunner().invoke(main, prog_name="ls-pipeline").stdout.split()


def test_shell_completes_commands_flags_and_connections(run, config, environment):
    add(run, config)

    assert completed(environment, "ls-pipeline st") == ["plain,start", "plain,status"]
    assert completed(environment, "ls-pipeline sync --j") == ["plain,--json"]
    assert completed(environment, "ls-pipeline sync ca") == ["plain,cats"]


def test_completion_creates_no_home(environment):
    offered = completed(environment, "ls-pipeline sync ca")

    assert (offered, home().exists()) == ([], False)


@pytest.mark.slow
def test_reading_the_ledger_imports_neither_dagster_nor_a_cloud_client():
    script = (
        "import sys, ls_pipeline.cli.main; "
        "heavy = {'dagster', 'boto3', 'google.cloud.storage', 'pandas', 'pyarrow', 'httpx'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def on_a_terminal(words, **environment):
    """Run a command on a new terminal, and return its output."""
    theirs, ours = pty.openpty()
    with subprocess.Popen(
        [Path(sys.executable).with_name("ls-pipeline"), *words],
        stdout=ours,
        stderr=ours,
        env={**os.environ, "TERM": "xterm", **environment},
    ):
        os.close(ours)
        output = b""
        with suppress(OSError):  # how Linux reports the end
            while more := os.read(theirs, 4096):
                output += more
        os.close(theirs)
    return output


@pytest.mark.slow
def test_colors_need_a_terminal_and_no_color_turns_them_off(run):
    words = ("sync", "absent")
    plain = on_a_terminal(words, NO_COLOR="1")

    assert b"\x1b[31mError" in on_a_terminal(words)
    assert plain.startswith(b"Error: There is no connection 'absent'")
    assert "\x1b" not in run(*words).stderr


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("connections", "remove", "none", "--json"), "unknown_connection", 2),
        (("status", "--json", "--nonsense"), "usage", 2),
        (("status", "--nonsense", "--json"), "usage", 2),
        (("connections", "remove", "--json"), "usage", 2),
        (("prune", "--json"), "pipeline", 1),
        (("sync", "none", "--json"), "unknown_connection", 2),
    ],
)
def test_error_is_json_if_the_output_is(run, environment, tmp_path, words, code, exit_code):
    environment.setenv("DAGSTER_HOME", str(tmp_path / "nowhere"))
    done = run(*words)
    error = json.loads(done.stdout)["error"]

    assert (error["code"], done.exit_code) == (code, exit_code)
    assert error["message"] in done.stderr
    assert error["hint"] in done.stderr


WITH_JSON = [
    words
    for words, command in commands()
    if any("--json" in param.opts for param in command.params)
]


@pytest.mark.parametrize("words", WITH_JSON)
def test_wrong_usage_of_every_command_is_json_if_the_output_is(run, words):
    done = run(*words.split(), "--json", "--nonsense")
    error = json.loads(done.stdout)["error"]

    assert (error["code"], done.exit_code) == ("usage", 2)
    assert error["message"].startswith("No such option '--nonsense'.")


@pytest.mark.parametrize(
    "words", sorted({*WITH_JSON} - {"demo", "doctor", "export", "prune"}), ids=str
)
def test_failure_of_every_command_is_json_if_the_output_is(run, environment, tmp_path, words):
    environment.chdir(tmp_path)
    Path("connections.yaml").write_text("connections: {}")
    environment.setenv("LS_PIPELINE_DATABASE_URL", "nonsense")
    done = run(*full_words(words), "--json")

    assert (json.loads(done.stdout)["error"]["code"], done.exit_code) == ("ledger", 1)


def test_wrong_option_of_the_program_itself_is_json_if_the_output_is(run):
    done = run("--nonsense", "status", "--json")

    assert (json.loads(done.stdout)["error"]["code"], done.exit_code) == ("usage", 2)


def test_unexpected_error_is_json_if_the_output_is(run, environment):
    environment.setattr("ls_pipeline.cli.status._statuses", lambda *_: 1 / 0)
    done = run("status", "--json")

    assert json.loads(done.stdout)["error"]["code"] == "unexpected"
    assert done.exit_code == 1


def test_table_through_a_pipe_is_not_cut(run, config, environment):
    environment.delenv("COLUMNS")
    name, bucket = "a-" * 30 + "nam", "a-bucket-" * 6 + "b"
    words = ("--source", "s3", "--source-path", bucket, "--label-config", config)
    run("connections", "add", name, *words, "--project", "Cats")
    listed, shown = (run(*words).stdout for words in (("connections", "list"), ("status",)))

    assert any(name in line and bucket in line for line in listed.splitlines())
    assert any(name in line and "waiting" in line for line in shown.splitlines())


@pytest.mark.parametrize("value", ["30s", "-5", "abc"])
def test_variable_that_dagster_reads_is_checked_by_start(run, environment, value):
    environment.setenv("LS_PIPELINE_POLL_SECONDS", value)
    done = run("start", "--init", "--source", "s3", "--source-path", "bucket")

    assert done.exit_code == 1
    assert f"LS_PIPELINE_POLL_SECONDS is {value!r}, not a whole number" in done.stderr


STREAMS = {
    "no stdin": "<&-",
    "no stdout": ">&-",
    "no stderr": "2>&-",
    "no streams": "<&- >&- 2>&-",
    "ASCII": "| cat",
}


@pytest.mark.slow
@pytest.mark.parametrize("redirection", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("words", ["connections list", "status --json"])
def test_command_works_whatever_its_streams(run, config, environment, redirection, words):
    add(run, config, "--source-params", '{"prefix": "Kätzchen"}')
    environment.setenv("PYTHONIOENCODING", "ascii")
    command = f"set -o pipefail; {PROGRAM} {words} {redirection}"
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert ">&-" in redirection.replace("2>&-", "") or "cats" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", ["connections list", "status --json"])
def test_full_output_is_a_sentence(run, config, words):
    add(run, config)
    command = f"{PROGRAM} {words} > /dev/full"
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (
        1,
        "Error: The output: No space left on device.\n",
    )

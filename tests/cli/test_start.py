"""What `ls-pipeline start` does while its servers run. tests/e2e/test_start.py starts them."""

import types

import pytest
from click.testing import CliRunner

from ls_pipeline.cli import start
from ls_pipeline.cli.main import main
from ls_pipeline.domain.errors import LedgerUnavailableError, PipelineError


def test_first_connection_without_a_bucket_is_wrong_usage(environment):
    done = CliRunner().invoke(main, ["start", "--init", "--source", "s3"])

    assert (done.exit_code, "--source needs --source-path" in done.stderr) == (2, True)


def test_ledger_that_fails_for_a_moment_is_reported_once_and_stops_nothing(monkeypatch, capfd):
    answers = [LedgerUnavailableError("sqlite:///x", "it restarts")] * 3

    def statuses():
        if answers:
            raise answers.pop()
        return []

    def check():
        checks.append(len(answers))
        if len(checks) == 5:
            raise PipelineError("Dagster has ended.")

    checks = []
    monkeypatch.setattr(start, "REFRESH_SECONDS", 0)
    cli = types.SimpleNamespace(ledger=types.SimpleNamespace(statuses=statuses))
    with pytest.raises(PipelineError, match="Dagster has ended"):
        start._watch([types.SimpleNamespace(check=check)], cli)

    assert checks == [2, 1, 0, 0, 0]
    assert capfd.readouterr().err.count("failed (it restarts)") == 1

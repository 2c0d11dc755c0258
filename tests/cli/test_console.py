"""What is printed is shown as it is, and controls nothing."""

import json
import sys

import click
import pytest
from click.testing import CliRunner
from rich.progress import Progress

from ls_pipeline.cli import console
from ls_pipeline.cli.main import Cli, main
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.domain.text import visible

HOSTILE = "\x1b[2J[red]:smile:[/red]\x9b\u2028\x7f"
SHOWN = visible(HOSTILE)


def test_lines_and_errors_are_shown_as_they_are(capsys):
    console.print_lines(HOSTILE, style="bold")
    console.print_error(f"first\n{HOSTILE}")
    console.err.print(HOSTILE)

    assert capsys.readouterr() == (f"{SHOWN}\n", f"first\n{SHOWN}\n{SHOWN}\n")


def test_errors_below_counts_are_each_one_line(capsys):
    console.show_counts({"reviews": {"tasks": 1, "error": "failed\nError: forged"}})

    assert capsys.readouterr().err == "reviews: failed\\nError: forged\n"


def test_styled_text_is_shown_as_it_is(capsys):
    console.out.print(console.styled(HOSTILE, "red"))

    assert capsys.readouterr().out == f"{SHOWN}\n"


def test_progress_is_shown_as_it_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(console, "err", console.PlainConsole(stderr=True, force_terminal=False))
    with console.show_progress() as progress:
        progress.advance("reviews", HOSTILE, 1, 2)
        assert isinstance(progress._progress, Progress)
        progress._progress.refresh()
        (line,) = progress._progress.get_renderables()
        console.err.print(line)

    assert f"reviews: {SHOWN}" in capsys.readouterr().err


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_ascii_without_control_characters(capsys, indent):
    console.print_json({"key": HOSTILE}, indent)
    text = capsys.readouterr().out

    assert json.loads(text) == {"key": HOSTILE}
    assert text.replace("\n", "").isprintable()
    assert text.isascii()


@pytest.mark.parametrize("error", [ValueError, RuntimeError, OSError])
def test_unexpected_error_is_shown_as_it_is(error):
    def fail():
        raise error(HOSTILE)

    done = CliRunner().invoke(Cli(commands=[click.Command("fail", callback=fail)]), ["fail"])

    assert done.exit_code == 1
    assert done.stderr.startswith("Error: Traceback")
    assert done.stderr.rstrip().endswith(f"{error.__name__}: {SHOWN}")


def test_lines_of_our_own_errors_are_kept():
    def fail():
        raise PipelineError("It failed.", details=[HOSTILE])

    done = CliRunner().invoke(Cli(commands=[click.Command("fail", callback=fail)]), ["fail"])

    assert done.stderr == f"Error: It failed.\n  {SHOWN}\n"


def test_project_title_is_no_markup(environment):
    environment.setenv("COLUMNS", "200")
    words = ["connections", "add", "reviews", "--source", "s3", "--source-path", "bucket"]
    done = CliRunner().invoke(main, [*words, "--project", "[red]Reviews[/]"])
    listed = CliRunner().invoke(main, ["connections", "list"])

    assert (done.exit_code, "[red]Reviews[/]" in listed.stdout) == (0, True)

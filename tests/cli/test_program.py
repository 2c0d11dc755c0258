"""The program from its first line: it ends quietly on Ctrl-C, whatever it is importing."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main

INTERRUPTED_AT_IMPORT = """
import os, signal, sys

module, sys.argv = sys.argv[1], ["ls-pipeline", *sys.argv[2:]]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from ls_pipeline.cli.program import run
run()
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("ls_pipeline.cli.main", ["status"]),
        ("click", ["status"]),
        ("sqlalchemy", ["status"]),
        ("prometheus_client", ["metrics"]),
    ],
)
def test_interrupted_import_ends_quietly(environment, tmp_path, module, words):
    environment.setenv("LS_PIPELINE_HOME", str(tmp_path))
    command = [sys.executable, "-c", INTERRUPTED_AT_IMPORT, module, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() in {"", "Aborted!"}


@pytest.mark.parametrize(("interrupted", "exit_code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_question_that_gets_no_answer_ends_quietly(environment, interrupted, exit_code):
    @main.command("ask")
    def ask():
        try:  # as click's own questions do
            answer()
        except interrupted:
            raise click.Abort from None

    def answer():
        raise interrupted

    try:
        done = CliRunner().invoke(main, ["ask"])
    finally:
        del main.commands["ask"]

    assert (done.exit_code, done.stdout, done.stderr.strip()) == (exit_code, "", "Aborted!")

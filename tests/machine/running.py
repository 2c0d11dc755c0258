"""How the machines run, and what they have in common."""

from __future__ import annotations

import shutil

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ls_pipeline.resources.ledger.ledger import Ledger

STEPS_AN_EXAMPLE = 40


class LedgerFile:
    """A ledger on SQLite that is opened once; examples empty it, or restore it from a backup.

    Opening it for each of them takes longer than some of their steps, and SQLAlchemy would compile
    each statement again.
    """

    def __init__(self, folder):
        self.path, self._empty = folder / "ledger.db", folder / "empty.db"
        self.ledger = Ledger(f"sqlite:///{self.path}")
        self.ledger.close()
        sa.event.listen(self.ledger.database.engine, "connect", _without_waiting)
        self.back_up(self._empty)

    def empty(self):
        self.restore(self._empty)

    def back_up(self, to):
        self.ledger.close()  # the last connection to close leaves everything in one file
        shutil.copy(self.path, to)

    def restore(self, backup):
        self.ledger.close()
        shutil.copy(backup, self.path)


def run_steps(machine, ledger_file, request, short_run):
    """Run a machine for ``--machine-steps``; without it, the same ``short_run`` steps each time.

    Returns the least number of steps that it has to take.
    """
    machine.ledger_file = ledger_file
    steps = request.config.getoption("--machine-steps") or short_run
    is_short = steps == short_run
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=steps // (STEPS_AN_EXAMPLE - 7) + 1,  # some end early
            stateful_step_count=STEPS_AN_EXAMPLE,
            deadline=None,
            derandomize=is_short,
            print_blob=True,
            phases=[Phase.generate] if is_short else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return steps


def _without_waiting(connection, _record):
    """Have the ledger not wait for the disk."""
    connection.execute("PRAGMA synchronous=OFF")


def place_of(task):
    """Return the (key, row) that a task came from."""
    origin = task["meta"]["ls_pipeline"]
    return origin["uri"].removeprefix("s3://bucket/"), origin["row"]

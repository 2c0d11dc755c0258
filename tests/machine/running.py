"""How the machines run, and what they have in common."""

from __future__ import annotations

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

STEPS_AN_EXAMPLE = 40


def run_steps(machine, request, short_run):
    """Run a machine for ``--machine-steps``; without it, the same ``short_run`` steps each time.

    Returns the least number of steps that it has to take.
    """
    steps = request.config.getoption("--machine-steps") or short_run
    is_short = steps == short_run
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=steps // (STEPS_AN_EXAMPLE * 3 // 4),
            stateful_step_count=STEPS_AN_EXAMPLE,
            deadline=None,
            derandomize=is_short,
            print_blob=True,
            phases=[Phase.generate] if is_short else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return steps


def hurry(bench):
    """Have a bench's ledger not wait for the disk."""
    sa.event.listen(bench.ledger.database.engine, "checkout", _without_waiting)


def _without_waiting(connection, *_):
    connection.execute("PRAGMA synchronous=OFF")


def place_of(task):
    """Return the (key, row) that a task came from."""
    origin = task["meta"]["ls_pipeline"]
    return origin["uri"].removeprefix("s3://bucket/"), origin["row"]

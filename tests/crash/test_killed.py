"""A real process, killed at every step of a run, against real servers; then run again."""

from __future__ import annotations

import pytest

from tests.crash.scene import AFTER_CHANGES, AFTER_FILLING, Scene

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    ("prepare", "expected", "cloud", "params", "database"),
    [
        (Scene.fill, AFTER_FILLING, "s3", {}, "sqlite"),
        (Scene.change, AFTER_CHANGES, "s3", {"tasks_per_project": 3}, "sqlite"),
        (Scene.fill, AFTER_FILLING, "gcs", {"tasks_per_project": 2}, "sqlite"),
        (Scene.fill, AFTER_FILLING, "s3", {}, "postgresql"),
    ],
    ids=[
        "first load on S3",
        "all kinds of changes on S3, in two projects",
        "first load on GCS, into two projects",
        "first load on S3, ledger on PostgreSQL",
    ],
)
def test_process_killed_at_any_step_and_run_again_ends_as_if_never_killed(
    request, live_environment, victim, kills, prepare, expected, cloud, params, database
):
    if database == "postgresql":
        live_environment.setenv("LS_PIPELINE_DATABASE_URL", request.getfixturevalue(database))

    def run_connection(name):
        return victim.run(name)["error"]

    undisturbed = Scene(run_connection, cloud, **params)
    prepare(undisturbed)
    result = victim.run(undisturbed.name)
    assert result["error"] == ""
    assert undisturbed.outcome() == expected
    assert result["steps"] > 50
    for at in range(1, result["steps"] + 1, max(1, result["steps"] // kills)):
        scene = Scene(run_connection, cloud, **params)
        prepare(scene)
        killed = victim.run(scene.name, at)["killed"]
        assert scene.run() == ""
        assert scene.run() == ""
        assert scene.outcome() == expected, f"killed at step {at} ({killed=})"

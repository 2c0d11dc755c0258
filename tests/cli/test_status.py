import json

import pytest
from click.testing import CliRunner

from ls_pipeline.cli import status as module
from ls_pipeline.cli.main import main
from ls_pipeline.resources.ledger.health import RETRY_UNDECIDED
from tests.bench import RESULT, Bench


@pytest.fixture
def bench(empty_ledger, environment):
    environment.setenv("COLUMNS", "200")
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    bench = Bench(empty_ledger)
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    return bench


def run(*words):
    return CliRunner().invoke(main, ["status", *words])


def status_json(name="reviews"):
    return json.loads(run("--json").stdout)["connections"][name]


def test_connections_are_counted(bench):
    for key in "abc":
        bench.put(f"{key}.json", {"text": key})
    bench.put("bad.json", b"not json")
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.snapshot()
    status = status_json()

    assert {name: status[name] for name in module.COUNTS} == {
        "objects": 3,
        "tasks": 3,
        "labeled": 1,
        "exported": 1,
        "quarantined": 1,
    }
    assert status["snapshot"].startswith("s3://labels/training_data/snapshots/00000001-")
    assert status["projects"] == ["http://127.0.0.1:9/projects/1/data"]


def test_new_connection_waits_for_its_first_run(bench):
    assert "waiting" in run().stdout.split()
    assert "never" in run().stdout


def test_run_that_succeeded_is_shown_with_its_time(bench):
    bench.succeed("tasks")
    bench.succeed("completions")

    assert status_json()["passed_at"] == bench.time.now
    assert "ok" in run().stdout.split()


def test_failure_is_shown_with_its_next_try(bench):
    bench.succeed("tasks")
    bench.fail("tasks", "Label Studio is down.")
    shown = " ".join(run().stdout.split())

    assert status_json()["failures"] == {"tasks": "Label Studio is down."}
    assert status_json()["passed_at"] == bench.time.now
    assert "Label Studio is down." in shown
    assert "Trying again at" in shown


def test_failure_that_waits_for_a_person_is_shown_with_the_date_of_its_next_try(bench):
    bench.fail("tasks", "It is another project.", needs_decision=True)
    then = bench.time.now + RETRY_UNDECIDED
    (status,) = bench.ledger.statuses()
    shown = module._errors(module.status_of(status, ""), bench.time.now)

    assert status_json()["retry_at"] == then
    assert "failing" in run().stdout.split()
    assert shown == "It is another project. Trying again at 2027-01-16 08:00:00 UTC."


def test_80_columns_hold_every_column_and_links_stay_whole(bench, environment):
    environment.setenv("COLUMNS", "80")
    for number in range(3):
        bench.put(f"{number}.json", {"text": "a"})
    bench.load()
    bench.fail("tasks", "Label Studio is down. " * 5)
    shown = run().stdout.splitlines()
    (row,) = (line for line in shown if line.startswith("reviews "))

    assert row.split() == ["reviews", "3", "3", "0", "0", "0", "never", "failing"]
    assert "reviews: http://127.0.0.1:9/projects/1/data" in shown
    assert max(map(len, shown)) <= 80


def test_running_connection_is_shown(bench):
    with bench.connection_ledger.acquire():
        assert status_json()["working"]
        assert "running" in run().stdout.split()


def test_disabled_connection_is_shown(bench):
    off = bench.connection_ledger.settings.in_force().connection.model_copy(
        update={"enabled": False}
    )
    bench.ledger.save(off, "test")

    assert "disabled" in run().stdout.split()


def test_missing_connections_are_reported(environment, tmp_path):
    assert "There are no connections yet" in run().stdout


def test_unknown_connection_is_refused(bench):
    done = run("reviewz")

    assert (done.exit_code, "'reviewz'" in done.stderr) == (2, True)


def test_watch_refreshes_until_it_is_interrupted(bench, monkeypatch):
    refreshes = []

    def sleep(_seconds):
        refreshes.append(1)
        if len(refreshes) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", sleep)

    assert (run("--watch").exit_code, len(refreshes)) == (0, 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (200_000, "2 d ago"), (-5, "0 s ago")],
)
def test_times_are_shown_in_rounded_units(seconds, text):
    assert module._ago(1000.0, 1000.0 + seconds) == text

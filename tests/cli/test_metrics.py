"""What Prometheus reads: checked with its own parser."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ls_pipeline.cli.main import main
from ls_pipeline.cli.metrics import GAUGES, collect
from tests.bench import Bench
from tests.sensors.test_sensors import look, look_at_labels

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts.yaml"


@pytest.fixture
def bench(empty_ledger, environment):
    bench = Bench(empty_ledger)
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    return bench


def parse(text):
    """Return (name, labels without the connection) → value."""
    return {
        (sample.name.removeprefix("ls_pipeline_"), *list(sample.labels.values())[1:]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels["connection"] == "reviews"
    }


def read():
    return parse(CliRunner().invoke(main, ["metrics"]).stdout)


def now(bench):
    """Read as of the bench's time."""
    return parse(generate_latest(collect(bench.ledger)).decode())


def test_state_of_a_connection_is_counted(bench):
    bench.put("bad.json", b"{")
    bench.fill("abc", labeled="ab")
    bench.export()
    bench.succeed("tasks")
    found = read()

    assert {name for name, *_ in found} == set(GAUGES)
    assert (found["tasks",], found["completions",], found["quarantined",]) == (3, 2, 1)
    assert (found["objects", "loaded"], found["objects", "quarantined"]) == (3, 1)
    assert found["last_success_timestamp_seconds", "tasks"] == bench.time.now
    assert found["failing",] == 0


def test_failures_are_counted_until_they_are_over(bench):
    bench.fail("tasks", "It is down.")
    bench.fail("tasks", "It is down.")
    bench.ledger.record_looks("completions", {"reviews": "Label Studio does not answer."})
    failing = read()
    bench.succeed("tasks")
    bench.succeed("completions")
    found = read()

    assert (failing["failing",], failing["failures_in_a_row", "tasks"]) == (1, 2)
    assert failing["failing_look_since_timestamp_seconds", "completions"] == bench.time.now
    assert (found["failing",], found["failures_in_a_row", "tasks"]) == (0, 0)
    assert found["failing_look_since_timestamp_seconds", "completions"] == 0


def test_change_has_an_age_until_a_run_succeeds(bench, instance):
    for name in "abc":
        bench.put(f"{name}.json", {"text": name})
    look(bench, instance)
    bench.time.sleep(300)
    look(bench, instance)
    found = now(bench)
    bench.load()
    bench.succeed("tasks")
    loaded = now(bench)

    assert (found["objects_waiting",], found["oldest_change_age_seconds", "tasks"]) == (3, 300)
    assert found["oldest_change_age_seconds", "completions"] == 0
    assert (loaded["objects_waiting",], loaded["oldest_change_age_seconds", "tasks"]) == (0, 0)


def test_new_label_has_an_age_until_a_run_succeeds(bench, instance):
    bench.fill("a", labeled="a")
    look_at_labels(bench, instance)
    bench.time.sleep(60)
    found = now(bench)
    bench.succeed("completions")

    assert found["oldest_change_age_seconds", "completions"] == 60
    assert now(bench)["oldest_change_age_seconds", "completions"] == 0


def test_change_that_was_taken_back_is_none(bench, instance):
    bench.put("a.json", {"text": "a"})
    look(bench, instance)
    bench.bucket.delete("a.json")
    look(bench, instance)

    assert now(bench)["oldest_change_age_seconds", "tasks"] == 0


def test_file_is_replaced(bench, tmp_path):
    file = tmp_path / "ls_pipeline.prom"
    for _ in range(2):
        done = CliRunner().invoke(main, ["metrics", "--output", str(file)])

    assert (done.exit_code, done.stdout) == (0, "")
    assert parse(file.read_text()) == read()
    assert list(tmp_path.glob("ls_pipeline.prom*")) == [file]


def test_example_alerts_use_metrics_that_exist():
    alerts = ALERTS.read_text()
    names = {f"ls_pipeline_{name}" for name in GAUGES}

    assert set(re.findall(r"ls_pipeline_\w+", alerts)) <= names

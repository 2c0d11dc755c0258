"""What sensors can't see is shown as a failure of the connection, until they see it again."""

import json
import threading

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.cli.start import _ProgressPrinter
from ls_pipeline.domain.errors import LabelStudioUnavailableError
from ls_pipeline.sensors import probes
from ls_pipeline.sensors import tick as ticks
from tests.bench import Bench
from tests.engine.test_load import Wrapped
from tests.sensors.test_sensors import look, look_at_labels

GONE = "s3://bucket/: the bucket does not exist. Create it, or correct the path."


@pytest.fixture
def bench(empty_ledger, environment):
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    bench = Bench(empty_ledger)
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    bench.fill("a", labeled="a")
    bench.export()
    bench.succeed("tasks")
    return bench


def failures():
    """Return what ``status --json`` says fails, after checking its exit code."""
    done = CliRunner().invoke(main, ["status", "--json"])
    failures = json.loads(done.stdout)["connections"]["reviews"]["failures"]
    assert done.exit_code == bool(failures)
    return failures


def since(bench):
    (status,) = bench.ledger.statuses()
    return {work: failed.since for work, failed in status.failed_looks.items()}


def test_bucket_that_is_gone_fails_its_connection_until_it_is_back(bench, instance, capsys):
    began = bench.time()
    bench.bucket.exists = False
    look(bench, instance)
    first, printer = failures(), _ProgressPrinter()
    printer.update(bench.ledger.statuses()[0])
    bench.time.sleep(60)
    look(bench, instance)
    still = since(bench)
    bench.bucket.exists = True
    look(bench, instance)

    assert first["tasks"].startswith(f"{GONE} First seen at ")
    assert still == {"tasks": began}
    assert failures() == {}
    assert GONE in " ".join(capsys.readouterr().out.split())


def test_bucket_that_hangs_fails_its_connection(bench, instance, monkeypatch):
    monkeypatch.setattr(ticks, "TICK_SECONDS", 0.2)
    monkeypatch.setattr(probes, "GRACE_SECONDS", 0.1)
    answered = threading.Event()
    look(bench, instance, bucket=Wrapped(bench.bucket, ranges=lambda *_, **__: answered.wait(30)))
    answered.set()

    assert failures()["tasks"].startswith("no answer came in time. First seen at ")


def test_label_studio_that_is_down_fails_its_connections_until_a_run_succeeds(bench, instance):
    def fail(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    bench.app, app = Wrapped(bench.app, count_annotations=fail), bench.app
    look_at_labels(bench, instance)
    first, bench.app = failures(), app
    bench.succeed("completions")

    assert first["completions"].startswith("Label Studio does not answer. First seen at ")
    assert failures() == {}


def test_look_that_finds_work_or_none_is_no_failure(bench, instance):
    bench.put("b.json", {"text": "b"})
    look(bench, instance)
    look_at_labels(bench, instance)

    assert failures() == {}


def test_look_that_changes_nothing_writes_nothing(bench, instance):
    bench.bucket.exists = False
    look(bench, instance)

    def begin():
        raise AssertionError("it writes")

    engine = bench.ledger.database.engine
    bench.ledger.database.engine = Wrapped(engine, begin=begin)
    look(bench, instance)
    bench.ledger.database.engine = engine

    assert list(since(bench)) == ["tasks"]

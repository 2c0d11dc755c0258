"""Stored settings that this version refuses stop their connection, and no other."""

from __future__ import annotations

import json

import dagster as dg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ls_pipeline.assets.checks import stalled_connections
from ls_pipeline.cli.doctor.checks import examine
from ls_pipeline.cli.main import main
from ls_pipeline.domain.errors import InvalidConnectionError, StoredSettingsError
from ls_pipeline.engine.detect import wants_snapshot
from ls_pipeline.resources.ledger.tables import connections, revisions
from ls_pipeline.sensors.completions import completions_tick
from ls_pipeline.sensors.notifications import Services, notifications_tick
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.settings.validation import build_connection
from tests.bench import Bench
from tests.cli.memory_context import MemoryContext
from tests.contracts.memory_queue import MemoryQueue

REFUSED = (
    "Connection 'broken' stopped, because this version of ls_pipeline refuses revision 1 of its "
    "settings: "
)
MEND = (
    "Store all of its settings again with `ls-pipeline connections add broken` or `connections "
    "apply`."
)

GARBAGE = [None, 5, "text", [], {}, {"name": "broken"}, {"source": 5, "target": []}]


def damage(bench, change, name="broken"):
    """Change the stored settings of a connection."""
    named = sa.select(connections.c.id).where(connections.c.name == name).scalar_subquery()
    own = revisions.c.connection == named
    with bench.ledger.database.engine.begin() as db:
        document = db.scalar(sa.select(revisions.c.document).where(own))
        db.execute(revisions.update().where(own).values(document=change(document)))


def stricter(document):
    document["source"]["params"]["regex"] = "("
    return document


DOCUMENTS = [stricter, *GARBAGE]


@pytest.fixture
def bench(empty_ledger, environment):
    environment.setenv("COLUMNS", "400")
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    bench = Bench(empty_ledger)
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    bench.broken = Bench(empty_ledger, "broken")
    bench.put("a.json", {"text": "a"})
    damage(bench, stricter)
    return bench


def run(bench, *words, instance=None):
    return CliRunner().invoke(main, words, obj=MemoryContext(bench, instance))


def test_run_of_the_connection_says_how_to_mend_it(bench):
    with pytest.raises(StoredSettingsError) as error:
        bench.broken.load()

    assert str(error.value).startswith(f"{REFUSED}source.params.regex: ")
    assert str(error.value).endswith(MEND)


def test_sync_runs_the_others(bench, instance):
    result = run(bench, "sync", "--json", instance=instance)
    reports = json.loads(result.stdout)["connections"]

    assert (result.exit_code, reports["reviews"]["tasks"]) == (1, 1)
    assert "error" not in reports["reviews"]
    assert reports["broken"]["error"].startswith(REFUSED)


def ticks(bench, instance):
    """Return the results of the sensors' ticks."""
    context = dg.build_sensor_context(instance=instance)
    services = Services(lambda _: bench.bucket, lambda _: MemoryQueue(), bench.app)
    return [
        objects_tick(context, bench.ledger, "s3", lambda _: bench.bucket),
        completions_tick(context, bench.ledger, bench.app),
        notifications_tick(context, bench.ledger, services),
    ]


def test_sensors_watch_the_others(bench, instance):
    objects, labels, events = ticks(bench, instance)
    bench.load()
    quiet, _, _ = ticks(bench, instance)

    assert [request.partition_key for request in objects.run_requests] == ["reviews"]
    assert objects.dynamic_partitions_requests[0].partition_keys == ["reviews"]
    for result in (quiet, labels, events):
        assert f"broken: {REFUSED}" in result.skip_reason.skip_message


def test_conditions_and_checks_leave_it_out(bench):
    statuses = bench.ledger.statuses()

    assert [wants_snapshot(status, 0.0) for status in statuses] == [False, False]
    assert stalled_connections(bench.ledger) == {}


def test_list_shows_the_others(bench):
    shown, as_json = run(bench, "connections", "list"), run(bench, "connections", "list", "--json")
    listed = json.loads(as_json.stdout)["connections"]

    assert "Reviews" in shown.stdout
    assert REFUSED in shown.stdout
    assert listed["reviews"]["project"] == "Reviews"
    assert listed["broken"]["error"].startswith(REFUSED)


def test_status_shows_the_others(bench):
    statuses = json.loads(run(bench, "status", "--json").stdout)["connections"]

    assert statuses["reviews"]["failures"] == {}
    assert statuses["broken"]["failures"]["settings"].startswith(REFUSED)


def test_doctor_checks_the_others(bench, instance):
    report = examine((), MemoryContext(bench, instance))
    [check] = report.connections["broken"].checks

    assert (check.check, check.state, check.do) == ("settings", "failed", MEND)
    assert len(report.connections["reviews"].checks) > 1


def test_history_shows_the_revision(bench):
    history = json.loads(run(bench, "connections", "history", "broken", "--json").stdout)

    assert history["revisions"][0]["changes"][0].startswith(REFUSED)


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_settings_stored_again_mend_it(bench, document):
    if not callable(document):
        damage(bench, lambda _: document)
    bench.broken.bucket = bench.bucket
    bench.broken.set()

    assert bench.broken.load().tasks_created == 1


def test_added_again_it_stays_disabled(bench):
    damage(bench, lambda document: {**document, "enabled": False})
    words = ["--source", "s3", "--source-path", "bucket", "--project", "Reviews"]
    added = run(bench, "connections", "add", "broken", *words)

    assert (added.exit_code, bench.ledger.connection("broken").enabled) == (0, False)


def test_loaded_tasks_still_refuse_another_bucket(bench):
    bench.load()
    damage(bench, stricter, "reviews")
    before = bench.ledger.connection_ledger("reviews").id
    moved = build_connection(
        "reviews", source={"type": "s3", "path": "other"}, target=None, project="Reviews"
    )

    with pytest.raises(InvalidConnectionError, match="whose tasks are loaded"):
        bench.ledger.save(moved, "test")
    bench.set()
    assert bench.connection_ledger.id == before
    assert bench.load().tasks_created == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_it_can_be_removed(bench, document):
    if not callable(document):
        damage(bench, lambda _: document)
    removed = run(bench, "connections", "remove", "broken")

    assert (removed.exit_code, bench.ledger.names()) == (0, ["reviews"])

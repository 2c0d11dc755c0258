"""Consent to a mass change, as a person gives it in Dagster's launchpad; notes of a run."""

import logging

import pytest
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from ls_pipeline.definitions import defs
from ls_pipeline.resources.ledger.records import Intent, Kind, TaskRow
from ls_pipeline.settings.validation import build_connection
from tests.assets.test_settings import Buckets, materialize
from tests.bench import CONFIG, RESULT
from tests.contracts.memory_bucket import MemoryBucket
from tests.standalone import completions, source_settings, target_settings, tasks

MANY = 30
CONSENT = {"allow_mass_change": True}


@pytest.fixture
def emptied(bench):
    """Return a bench with many tasks and files, whose source and annotations are gone."""
    bench.set(on_delete="delete")
    for n in range(MANY):
        bench.put(f"{n}.json", {"text": "a"})
        bench.put(f"{n}-labeled.json", {"text": "a"})
    bench.load()
    for n in range(MANY):
        bench.app.annotate(bench.task_id(f"{n}-labeled.json"), RESULT)
    bench.export()
    bench.bucket.objects.clear()
    for task in list(bench.app.tasks.values()):
        for annotation in list(task["annotations"]):
            bench.app.delete_annotation(annotation["id"])
    return bench


def run(bench, instance, asset, config=None, **options):
    """Materialize an asset; return the sentence with which it failed, if it did."""
    settings = {tasks: source_settings, completions: target_settings}[asset]
    name = asset.key.path[0]
    run_config = {"ops": {name: {"config": config}}} if config else None
    done = materialize(
        bench, instance, asset, settings, run_config=run_config, raise_on_error=False, **options
    )
    failures = done.get_step_failure_events()
    return failures[0].step_failure_data.user_failure_data.description if failures else ""


def emptied_files(bench):
    return sum(b'"annotations": []' in body for body in bench.files.values())


def test_mass_deletion_waits_for_consent_in_the_launchpad(emptied, instance):
    stopped = run(emptied, instance, tasks)
    count = len(emptied.app.tasks)
    allowed = run(emptied, instance, tasks, CONSENT)

    assert "or with allow_mass_change in the launchpad" in stopped
    assert (count, allowed, emptied.app.tasks) == (2 * MANY, "", {})


def test_mass_emptying_waits_for_consent_in_the_launchpad(emptied, instance):
    stopped = run(emptied, instance, completions)
    count = emptied_files(emptied)
    allowed = run(emptied, instance, completions, CONSENT)

    assert "`ls-pipeline sync reviews --allow-mass-change`" in stopped
    assert (count, allowed, emptied_files(emptied)) == (0, "", MANY)


def test_consent_that_is_refused_in_the_launchpad_is_none(emptied, instance):
    assert "stopped" in run(emptied, instance, tasks, {"allow_mass_change": False})


def shown(job):
    """Return what the launchpad of a job shows at first."""
    snapshot = job.get_job_snapshot()
    root = snapshot.config_schema_snapshot.get_config_snap(
        snapshot.mode_def_snaps[0].root_config_key
    )
    return default_values_yaml_from_type_snap(snapshot.config_schema_snapshot, root)


@pytest.mark.parametrize(
    ("job", "asset"), [("load_tasks", "tasks"), ("export_completions", "completions")]
)
def test_launchpad_of_a_job_offers_the_consent(job, asset):
    job = defs().get_repository_def().get_job(job)
    config = job.get_node_named(asset).definition.config_schema.as_field().config_type

    assert f"  {asset}:\n    config:\n      allow_mass_change: false\n" in shown(job)
    assert "delete, empty or bury" in config.fields["allow_mass_change"].description


def test_launchpad_of_all_assets_offers_the_consent_to_both():
    job = defs().get_repository_def().get_implicit_global_asset_job_def()

    assert shown(job).count("allow_mass_change: false\n") == 2


def move_target(bench, path):
    target = {"type": "s3-completions", "path": path}
    source = {"type": "s3", "path": "bucket"}
    moved = build_connection(
        bench.name, source=source, target=target, project="Reviews", label_config=CONFIG
    )
    bench.ledger.save(moved, "test")


@pytest.fixture
def moved(bench):
    """Return a bench whose target moved while the file of a new label was being written."""
    bench.put("a.json", {"text": "a"})
    bench.load()
    task_id = bench.task_id("a.json")
    bench.app.annotate(task_id, RESULT)
    move_target(bench, "old")
    with bench.connection_ledger.acquire() as held:
        row = TaskRow(f"{task_id}.json", 0, "", "", task_id)
        number = held.settings.in_force().number
        held.intents.begin(Intent(Kind.WRITE, (row,), "s3://old/", number))
    move_target(bench, "labels")
    return bench


def test_export_finishes_files_of_an_earlier_target(moved, instance):
    old = MemoryBucket("old")
    failure = run(moved, instance, completions, buckets=Buckets(moved.bucket, moved.target, old))
    key = f"{moved.task_id('a.json')}.json"

    assert (failure, old.objects[key]) == ("", moved.target.objects[key])


def test_notes_of_an_export_are_shown_and_logged(moved, instance):
    done = materialize(moved, instance, completions, target_settings)
    (event,) = done.asset_materializations_for_node("completions")
    note = "1 files in s3://old/ may be older than their labels: s3://old/"
    logged = instance.all_logs(done.run_id)
    warnings = [entry.user_message for entry in logged if entry.level == logging.WARNING]

    assert event.metadata["notes"].records[0].data["note"].startswith(note)
    assert [warning for warning in warnings if warning.startswith(note)]

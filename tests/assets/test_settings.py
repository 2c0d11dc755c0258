"""The settings assets, as a run of Dagster materializes them."""

import dagster as dg
import pytest

from ls_pipeline.definitions import defs
from ls_pipeline.domain.errors import BucketAccessError
from ls_pipeline.resources.progress import SilentProgress
from tests.bench import CONFIG, RESULT
from tests.contracts.memory_bucket import MemoryBucket
from tests.engine.test_load import Wrapped
from tests.standalone import CONNECTIONS, source_settings, target_settings


class Buckets:
    """Replaces `S3Buckets`; only the given buckets exist."""

    def __init__(self, *buckets):
        self.buckets = {one.name: one for one in buckets}

    def bucket_of(self, part):
        return self.buckets.get(part.path) or MemoryBucket(part.path, exists=False)


def materialize(bench, instance, wanted, *before, buckets=None, **options):
    """Materialize one asset in Dagster, with the parts of a bench."""
    instance.add_dynamic_partitions(CONNECTIONS.name, [bench.name])
    return dg.materialize(
        [wanted, *before],
        selection=[wanted],
        partition_key=bench.name,
        instance=instance,
        resources={
            "ledger": bench.ledger,
            "s3": buckets or Buckets(bench.bucket, bench.target),
            "gcs": Buckets(),
            "label_studio": bench.app,
            "progress": SilentProgress(),
        },
        **options,
    )


@pytest.fixture
def save(bench, instance):
    """Return a function that materializes the settings of one side with a form."""

    def run(asset=source_settings, name="reviews", buckets=None, **form):
        instance.add_dynamic_partitions(CONNECTIONS.name, [name])
        done = dg.materialize(
            [asset],
            partition_key=name,
            instance=instance,
            resources={
                "ledger": bench.ledger,
                "s3": buckets or Buckets(bench.bucket, bench.target),
                "gcs": Buckets(),
            },
            run_config={"ops": {asset.key.path[0]: {"config": form}}},
            raise_on_error=False,
        )
        failures = done.get_step_failure_events()
        if failures:
            return failures[0].step_failure_data.user_failure_data.description
        (event,) = done.asset_materializations_for_node(asset.key.path[0])
        return {
            name: getattr(value, "records", value.value) for name, value in event.metadata.items()
        }

    return run


def table(value):
    return [record.data for record in value]


def test_saved_form_is_in_force(bench, save):
    save(prefix="in", regex=".*json", use_blob_urls=True)
    params = bench.connection_ledger.settings.in_force().connection.source.params

    assert (params.prefix, params.regex, params.use_blob_urls) == ("in", ".*json", True)


def test_what_a_form_leaves_out_stays(bench, save):
    bench.set(prefix="in", on_delete="delete")
    before = bench.connection_ledger.settings.in_force()
    saved = save()

    assert bench.connection_ledger.settings.in_force() == before
    assert saved["saved"] == "nothing: these are the current settings"


def test_old_and_new_are_shown_and_who(bench, save):
    saved = save(prefix="in", saved_by="Ada")

    assert saved["changed"] == "source.params.prefix: '' → 'in'"
    assert saved["saved"] == "revision 2, by Ada"
    assert bench.connection_ledger.settings.in_force().saved_by == "Ada"


def test_preview_counts_and_shows_what_each_filter_takes(bench, save):
    for n in range(30):
        bench.put(f"in/{n:02}.json", {})
    bench.put("in/picture.png", b"")
    bench.put("in/", b"")
    bench.put("out/a.json", {})
    saved = save(prefix="in", regex=r".*\.json")
    counts = {name: saved[name] for name in ("matching", "dropped_by_prefix", "dropped_by_regex")}

    assert counts == {"matching": 30, "dropped_by_prefix": 1, "dropped_by_regex": 1}
    assert [row["key"] for row in table(saved["first_matching"])] == [
        f"in/{n:02}.json" for n in range(20)
    ]
    assert table(saved["first_dropped"]) == [
        {"key": "in/", "left out by": "folder"},
        {"key": "in/picture.png", "left out by": "regex"},
        {"key": "out/a.json", "left out by": "prefix"},
    ]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"regex": "("}, "is not valid RE2"),
        ({"path": "s3://bucket"}, "a bucket's name, as in my-bucket"),
        ({"path": "labels"}, "Source and target overlap"),
        ({"type": "none", "path": ""}, None),
        ({"path": "absent"}, "s3://absent/: the bucket does not exist"),
    ],
)
def test_refused_form_says_why_and_changes_nothing(bench, save, form, said):
    before = bench.connection_ledger.settings.in_force()
    if said is None:
        bench.ledger.save(before.connection.model_copy(update={"target": None}), "test")
        before, said = bench.connection_ledger.settings.in_force(), "neither a source nor a target"
    refusal = save(**form)

    assert said in refusal
    assert refusal.endswith("Nothing was saved.")
    assert bench.connection_ledger.settings.in_force() == before


def test_dry_run_shows_and_stores_nothing(bench, save):
    before = bench.connection_ledger.settings.in_force()
    saved = save(prefix="in", dry_run=True)

    assert saved["saved"] == "nothing: this was a dry run"
    assert saved["changed"] == "source.params.prefix: '' → 'in'"
    assert bench.connection_ledger.settings.in_force() == before


def test_narrower_filter_says_how_many_no_longer_match_and_keeps_their_tasks(bench, save):
    for key in ("a.json", "b.json", "c.json"):
        bench.put(key, {"text": key})
    bench.load()
    saved = save(regex="a")
    bench.load()

    assert (
        saved["notes"] == "2 objects with tasks no longer match; their tasks stay in Label Studio."
    )
    assert len(bench.tasks) == 3


def test_other_reading_says_what_becomes_of_tasks_and_quarantine(bench, save):
    bench.put("a.json", {"text": "a"})
    bench.put("b.png", b"\x89PNG")
    bench.load()
    saved = save(use_blob_urls=True, data_key="text", dry_run=True)

    about_tasks, about_quarantine = saved["notes"].splitlines()
    assert about_tasks.endswith("are read as blobs under 'text', not by their suffix or content.")
    assert about_quarantine == "1 object in quarantine will be tried again."


def test_form_takes_a_column_map(bench, save):
    saved = save(format="csv", column_map={"Body": "text", "id": "", "n": None})
    params = bench.connection_ledger.settings.in_force().connection.source.params

    assert "source.params.column_map.Body: 'text'" in saved["changed"]
    assert params.column_map == {"Body": "text", "id": "", "n": None}
    assert "source.params.column_map.Body" not in save(format="csv")["changed"]


def test_bucket_that_can_not_be_listed_now_is_a_note(bench, save):
    def refuse(*_):
        raise BucketAccessError("s3://bucket/", "access is refused.")

    buckets = Buckets(Wrapped(bench.bucket, pages=refuse))
    saved = save(buckets=buckets, prefix="in")

    assert saved["notes"] == "No preview: s3://bucket/: access is refused."
    assert bench.connection_ledger.settings.in_force().connection.source.params.prefix == "in"


def test_connection_is_added_by_its_settings(bench, save):
    save(name="cats", type="s3", path="bucket", project="Cats", label_config=CONFIG)
    save(target_settings, name="cats", type="s3-completions", path="labels", prefix="cats")
    cats = bench.ledger.connection("cats")

    assert (cats.source.path, cats.target.params.prefix, cats.project) == ("bucket", "cats", "Cats")


def test_new_partition_without_a_bucket_is_refused_in_words(save):
    assert "path '' is not a bucket's name" in save(name="cats", type="s3", path="")


def test_side_that_is_taken_away_says_what_stays(bench, save):
    bench.put("a.json", {"text": "a"})
    bench.load()
    saved = save(type="none")

    assert saved["notes"] == "No more objects are loaded; existing tasks stay."
    assert bench.connection_ledger.settings.in_force().connection.source is None


def test_target_preview_shows_the_keys_that_are_written(bench, save):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    for row in (0, 1):
        bench.app.annotate(bench.task_id("a.json", row), RESULT)
    bench.export()
    first, second = (bench.task_id("a.json", row) for row in (0, 1))
    saved = save(target_settings, prefix="new", regex=f"new/{first}")

    assert table(saved["first_matching"]) == [{"key": f"new/{first}.json"}]
    assert table(saved["first_dropped"]) == [{"key": f"new/{second}.json", "left out by": "regex"}]
    assert saved["notes"].startswith("All completions will be written to s3://labels/new/;")
    notes = save(target_settings, prefix="new", group_by="data:text")["notes"]
    assert "The next snapshot moves tasks to other splits, once." in notes


def prefilled(name, side="source"):
    job = defs().resolve_job_def(f"save_{side}_settings")
    config = job.partitioned_config.get_run_config_for_partition_key(name)
    return config["ops"][f"{side}_settings"]["config"]


def test_launchpad_opens_with_the_settings_in_force(bench, environment):
    bench.set(prefix="in", on_change="ignore")
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    form = prefilled("reviews")

    assert (form["type"], form["path"], form["prefix"], form["on_change"], form["project"]) == (
        *("s3", "bucket", "in", "ignore"),
        "Reviews",
    )


def test_form_that_was_overtaken_is_refused(bench, save, environment):
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    form = prefilled("reviews")
    bench.set(prefix="in")
    said = save(**{**form, "on_change": "ignore"})
    params = bench.connection_ledger.settings.in_force().connection.source.params

    assert "It was changed in between" in said
    assert (params.prefix, params.on_change) == ("in", "update")


def test_form_whose_values_are_in_force_by_now_saves_nothing(bench, save, environment):
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    form = {**prefilled("reviews"), "on_change": "ignore"}
    save(**form)

    assert save(**form)["saved"].startswith("nothing:")


NOT_SAVED = {"saved_by": "", "dry_run": False}


def test_launchpad_of_a_new_connection_opens_with_what_it_needs():
    assert prefilled("cats") == {
        "type": "s3",
        "path": "",
        "prefix": "",
        "use_blob_urls": False,
        "project": "cats",
        "label_config": "",
        "revision": 0,
        **NOT_SAVED,
    }


def test_launchpad_leaves_defaults_out(bench, environment):
    bench.set(prefix="in", region_name="eu-central-1")
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)

    assert prefilled("reviews") == {
        "type": "s3",
        "path": "bucket",
        "prefix": "in",
        "use_blob_urls": False,
        "region_name": "eu-central-1",
        "project": "Reviews",
        "revision": 2,
        **NOT_SAVED,
    }


def test_each_field_of_a_text_has_an_example():
    assets = source_settings, target_settings
    source, target = (each.op.config_schema.config_type.fields for each in assets)
    without = [
        name
        for name, field in {**source, **target}.items()
        if field.config_type.kind.name == "SCALAR"
        and field.config_type.given_name == "String"
        and "as in" not in field.description
    ]

    assert without == []


@pytest.mark.parametrize(
    ("side", "asset"), [("source", source_settings), ("target", target_settings)]
)
def test_form_as_it_opens_saves_nothing(bench, save, environment, side, asset):
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)

    assert save(asset, **prefilled("reviews", side))["saved"].startswith("nothing:")

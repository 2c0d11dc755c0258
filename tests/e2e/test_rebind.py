"""`ls-pipeline connections rebind` with a real Label Studio."""

import os

import pytest

from ls_pipeline.cli.demo import samples
from ls_pipeline.resources.label_studio.app import LabelStudio
from tests.e2e.conftest import keys
from tests.e2e.test_sync import put

pytestmark = pytest.mark.server


@pytest.fixture
def buckets(stage):
    """Return a source with three objects, and a target; the connection is labeled and exported."""
    source, target = stage.s3("in"), stage.s3("out")
    put(source, samples.texts(3))
    stage.add("reviews", samples.TEXT_CONFIG, source, target)
    stage.sync()
    stage.label_all("reviews")
    stage.sync()
    return source, target


def contents(bucket):
    return {key: bucket.get(key) for key in keys(bucket) if "/" not in key}


def test_installation_that_takes_over_goes_on_and_the_other_stops(stage, buckets, live_environment):
    first, second = os.environ["LS_PIPELINE_HOME"], str(stage.folder / "second")
    before = [task.task_id for task in stage.tasks("reviews")]
    files = contents(buckets[1])
    live_environment.setenv("LS_PIPELINE_HOME", second)
    stage.add("reviews", samples.TEXT_CONFIG, *buckets)
    stopped = stage.sync(code=1)["reviews"]["error"]
    shown = stage.run("connections", "rebind", "reviews", code=1).stdout

    assert "belongs to connection 'reviews' of another installation" in stopped
    assert "`ls-pipeline connections rebind reviews`" in stopped
    assert f"project {stage.name('reviews')!r}, {stage.projects('reviews')[0].url}" in shown
    for home, other in ((second, first), (first, second)):
        live_environment.setenv("LS_PIPELINE_HOME", home)
        stage.run("connections", "rebind", "reviews", "--take-over", "--yes")
        counts = stage.sync()["reviews"]
        live_environment.setenv("LS_PIPELINE_HOME", other)

        assert (counts["tasks"], counts["json_files"], counts["parquet_rows"]) == (3, 3, 3)
        assert "of another installation" in stage.sync(code=1)["reviews"]["error"]
        assert [task.task_id for task in stage.tasks("reviews")] == before
        assert contents(buckets[1]) == files


def test_tasks_of_a_deleted_project_are_loaded_again(stage, buckets):
    files = contents(buckets[1])
    LabelStudio().api.json("DELETE", f"api/projects/{stage.projects('reviews')[0].id}/")
    stopped = stage.sync(code=1)["reviews"]["error"]
    stage.run("connections", "rebind", "reviews", "--reload", "--yes")
    counts = stage.sync()["reviews"]

    assert "does not exist any more" in stopped
    assert (counts["tasks"], counts["completions"], counts["parquet_rows"]) == (3, 0, 0)
    assert contents(buckets[1]) == files

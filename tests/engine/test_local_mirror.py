"""Local copies of sources and targets, if a connection's params ask for them."""

import socket

import dagster as dg
import pytest

from ls_pipeline import open_snapshot
from ls_pipeline.assets.metadata import mirror_metadata
from ls_pipeline.domain.errors import BucketAccessError, BucketUnavailableError, ExternalSystemError
from ls_pipeline.engine.local_mirror import mirror_is_stale, update_mirror
from ls_pipeline.resources.environment import home
from ls_pipeline.resources.local_copy import LocalCopy
from ls_pipeline.sensors.completions import completions_tick
from tests.assets.test_settings import materialize
from tests.bench import RESULT
from tests.engine.test_load import Wrapped
from tests.standalone import completions, target_settings


@pytest.fixture
def files(environment, tmp_path):
    """Return key → body of the files in a side's local copy."""

    def read(side="source"):
        copy = LocalCopy(home() / "copies" / "reviews" / side)
        return {entry["key"]: (copy.root / entry["file"]).read_bytes() for entry in copy.entries()}

    return read


def due(bench, side="source"):
    return mirror_is_stale(
        bench.connection_ledger,
        getattr(bench.connection_ledger.settings.in_force().connection, side),
    )


def test_without_the_param_nothing_is_copied(bench, files):
    bench.put("a.json", {"text": "a"})
    result = bench.copy()

    assert (result, files(), due(bench)) == (None, {}, False)


def test_source_copy_has_what_the_filter_selects(bench, files):
    bench.set(prefix="in", regex=r".*\.json", create_local_copy=True)
    for key in ("in/a.json", "in/a.png", "out/a.json", "in/"):
        bench.put(key, {"text": key})
    bench.copy()

    assert files() == {"in/a.json": b'{"text": "in/a.json"}'}


def test_source_copy_follows_changes_removals_and_the_filter(bench, files):
    bench.set(create_local_copy=True)
    for key in ("a.json", "b.json", "c.json"):
        bench.put(key, b"old")
    bench.copy()
    bench.put("a.json", b"new")
    bench.bucket.delete("b.json")
    bench.copy()
    after_changes = files()
    bench.set(create_local_copy=True, regex="c")
    bench.copy()

    assert after_changes == {"a.json": b"new", "c.json": b"old"}
    assert files() == {"c.json": b"old"}


def test_copy_metadata_names_its_host(bench, files):
    bench.set(create_local_copy=True)
    source = bench.connection_ledger.settings.in_force().connection.source
    with bench.run(bench.bucket) as run:
        metadata = mirror_metadata(run, source, update_mirror(run, source))

    assert metadata["local_copy"].path == str(home() / "copies" / "reviews" / "source")
    assert metadata["local_copy_host"].text == socket.gethostname()


def test_target_copy_has_what_was_written_and_nothing_else(bench, files):
    bench.set(target={"create_local_copy": True})
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.snapshot()
    written = dict(bench.target.objects)
    bench.target.put("foreign.txt", b"", "text/plain")
    bench.copy("target")

    assert files("target") == written
    assert len(open_snapshot(home() / "copies/reviews/target/files").frame("results")) == 1


def test_copy_is_due_until_made_and_after_filter_changes(bench):
    bench.set(create_local_copy=True)
    bench.put("a.json", b"a")
    states = [due(bench)]
    bench.copy()
    states.append(due(bench))
    bench.set(create_local_copy=True, regex="b")
    states.append(due(bench))

    assert states == [True, False, True]


def test_object_that_can_not_be_delivered_is_skipped_alone(bench, files):
    bench.set(create_local_copy=True)
    for key in ("a.json", "b.json", "c.json"):
        bench.put(key, b"x")

    def fail_at_b(stored, file):
        if stored.key == "b.json":
            raise BucketUnavailableError("s3://bucket/b.json", "try again.")
        bench.bucket.download(stored, file)

    result = bench.copy(bucket=Wrapped(bench.bucket, download=fail_at_b))

    assert set(files()) == {"a.json", "c.json"}
    assert result.skipped == ["s3://bucket/b.json: try again."]


def test_interrupted_copy_is_due_and_continues(bench, files):
    bench.set(create_local_copy=True)
    for key in ("a.json", "b.json"):
        bench.put(key, b"x")
    bench.copy()
    bench.put("c.json", b"x")

    def fail(*_):
        raise BucketUnavailableError("s3://bucket/", "try again.")

    with pytest.raises(BucketUnavailableError):
        bench.copy(bucket=Wrapped(bench.bucket, pages=fail))
    due_before = due(bench)
    result = bench.copy()

    assert (due_before, due(bench), len(files())) == (True, False, 3)
    assert result.kept >= 1


def test_forbidden_object_fails_the_run_after_the_others(bench, files):
    bench.set(create_local_copy=True)
    for key in ("a.json", "b.json"):
        bench.put(key, b"x")

    def refuse(listed, file):
        if listed.key == "a.json":
            raise BucketAccessError("s3://bucket/a.json", "access is refused.")
        bench.bucket.download(listed, file)

    with pytest.raises(ExternalSystemError, match="access is refused"):
        bench.copy(bucket=Wrapped(bench.bucket, download=refuse))
    assert (list(files()), due(bench)) == (["b.json"], True)


def test_export_updates_the_target_copy_without_another_run(bench, files, instance):
    bench.set(target={"create_local_copy": True})
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    materialize(bench, instance, completions, target_settings)
    tick = completions_tick(dg.build_sensor_context(instance=instance), bench.ledger, bench.app)

    assert files("target") == bench.target.objects != {}
    assert tick.run_requests == []

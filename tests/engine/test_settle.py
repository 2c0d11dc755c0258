"""What a run began is settled before other settings count, and before a connection is removed."""

import json

import pytest

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import (
    BucketUnavailableError,
    IdentityError,
    LabelStudioUnavailableError,
)
from ls_pipeline.engine.settle import settle_all
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, RESULT
from tests.engine.test_crashes import Killed
from tests.engine.test_load import Wrapped


def kill(*_, **__):
    raise Killed


def killed_at(part, method, count, *, before=False):
    """Return a part that is killed at the call after this many of a method."""
    calls = []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) > count and before:
            raise Killed
        result = getattr(part, method)(*arguments, **options)
        if len(calls) > count:
            raise Killed
        return result

    return Wrapped(part, **{method: call})


def settle(bench, **parts):
    stores = {"bucket": bench.bucket, "labels": bench.target}
    open_bucket = parts.pop("open_bucket", lambda part: stores[part.path])
    with bench.run(parts.pop("bucket", bench.bucket), open_bucket=open_bucket, **parts) as run:
        return settle_all(run)


def document(bench, key):
    return json.loads(bench.target.objects[key])


# -- other settings before the next run ---------------------------------------------------------


@pytest.fixture
def filled(bench):
    """Return a bench with four tasks."""
    bench.set(on_delete="delete")
    for key in "abcd":
        bench.put(f"{key}.json", {"text": key})
    bench.load()
    return bench


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("before", [True, False])
def test_deletion_is_finished_though_on_delete_changed(filled, count, before):
    for key in "abcd":
        filled.bucket.delete(f"{key}.json")
    app = killed_at(filled.app, "delete_task", count, before=before)
    with pytest.raises(Killed):
        filled.load(app=app)
    filled.set(on_delete="keep")
    filled.load()
    again = filled.load()

    assert (filled.tasks, filled.connection_ledger.objects.count_tasks()) == ({}, 0)
    assert sum(again.changes.values()) == 0


def test_deletion_is_finished_and_objects_that_are_back_are_loaded_again(filled):
    for key in "abcd":
        filled.bucket.delete(f"{key}.json")
    with pytest.raises(Killed):
        filled.load(app=killed_at(filled.app, "delete_task", 1))
    for key in "abcd":
        filled.put(f"{key}.json", {"text": key})
    filled.set(on_delete="keep")
    filled.load()

    assert sorted(filled.tasks) == [(f"{key}.json", 0) for key in "abcd"]
    assert filled.load().changes == {Change.UNCHANGED: 4}


def test_import_is_recorded_though_the_filter_changed(bench):
    bench.put("a.json", {"text": "a"})
    with pytest.raises(Killed):
        bench.load(app=killed_at(bench.app, "import_tasks", 0))
    bench.set(regex="b.*")
    bench.load()
    bench.set()
    bench.load()

    assert (len(bench.app.tasks), bench.load().changes) == (1, {Change.UNCHANGED: 1})


@pytest.fixture
def labeled(bench):
    """Return a bench with two labeled tasks."""
    bench.fill("ab", labeled="ab")
    return bench


def ids(bench):
    return [bench.task_id(f"{key}.json") for key in "ab"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("count", [1, 2])  # the mark is put first
def test_files_are_finished_in_the_old_folder_and_written_in_the_new_one(labeled, count, before):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", count, before=before))
    labeled.app.edit(ids(labeled)[0], [])
    labeled.set(target={"prefix": "new"})
    labeled.export(open_bucket=lambda _: labeled.target)

    for task_id in ids(labeled):
        (completion,) = labeled.app.completions(1, [task_id])
        assert document(labeled, f"{task_id}.json") == completion.document
        assert document(labeled, f"new/{task_id}.json") == completion.document
    before = dict(labeled.target.objects)
    labeled.export(open_bucket=lambda _: labeled.target)
    assert labeled.files.items() <= before.items()


def test_tombstone_is_finished_in_the_old_folder(labeled):
    labeled.export()
    first, second = ids(labeled)
    labeled.app.delete_task(first)
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    labeled.set(target={"prefix": "new"})
    labeled.export(open_bucket=lambda _: labeled.target)

    assert document(labeled, f"{first}.json")["deleted"]
    assert f"new/{first}.json" not in labeled.target.objects
    assert f"new/{second}.json" in labeled.target.objects


def test_old_folder_is_looked_at_again_if_its_bucket_was_down(labeled):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    labeled.set(target={"prefix": "new"})

    def fail(_part):
        raise BucketUnavailableError("s3://labels/", "down")

    notes = labeled.export(open_bucket=fail).notes
    labeled.export(open_bucket=lambda _: labeled.target)

    assert notes == ["2 files in s3://labels/ may be older than their labels: s3://labels/: down"]
    assert all(f"{task_id}.json" in labeled.target.objects for task_id in ids(labeled))


# -- before a connection is removed -------------------------------------------------------------


def test_nothing_is_asked_if_nothing_is_open(labeled):
    labeled.export()

    assert settle(labeled, app=object(), open_bucket=None) == []


def test_deletions_imports_and_files_are_settled(filled):
    filled.app.annotate(filled.task_id("c.json"), RESULT)
    with pytest.raises(Killed):
        filled.export(killed_at(filled.target, "put", 1, before=True))
    for key in "ab":
        filled.bucket.delete(f"{key}.json")
    with pytest.raises(Killed):
        filled.load(app=killed_at(filled.app, "delete_task", 0))
    filled.put("e.json", {"text": "e"})
    with pytest.raises(Killed):
        filled.load(app=killed_at(filled.app, "import_tasks", 0))
    settle(filled)

    assert sorted(filled.tasks) == [("c.json", 0), ("d.json", 0), ("e.json", 0)]
    assert filled.task_id("e.json") in filled.app.tasks
    assert f"{filled.task_id('c.json')}.json" in filled.target.objects
    assert filled.connection_ledger.exports.unfinished() == []


def store(bench, source, target):
    parts = {"source": {"type": "s3", "path": "bucket"}}
    parts["target"] = {"type": "s3-completions", "path": "labels"}
    connection = build_connection(
        bench.name,
        source=parts["source"] if source else None,
        target=parts["target"] if target else None,
        project="Reviews",
        label_config=CONFIG,
    )
    bench.ledger.save(connection, "test")


def test_files_are_finished_though_the_target_was_taken_away(labeled):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    store(labeled, source=True, target=False)
    settle(labeled)

    assert all(f"{task_id}.json" in labeled.target.objects for task_id in ids(labeled))
    assert labeled.connection_ledger.intents.open() == []


def test_deletions_are_finished_though_the_source_was_taken_away(filled):
    for key in "ab":
        filled.bucket.delete(f"{key}.json")
    with pytest.raises(Killed):
        filled.load(app=killed_at(filled.app, "delete_task", 0))
    store(filled, source=False, target=True)
    settle(filled)

    assert sorted(filled.tasks) == [("c.json", 0), ("d.json", 0)]
    assert filled.connection_ledger.objects.count_tasks() == 2


@pytest.mark.parametrize("down", ["app", "bucket", "old bucket"])
def test_system_that_does_not_answer_is_an_error(labeled, down):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    if down == "old bucket":
        labeled.set(target={"prefix": "new"})

    def fail_app(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    def fail_bucket(_part):
        raise BucketUnavailableError("s3://labels/", "down")

    parts = {"open_bucket": fail_bucket}
    if down == "app":
        parts = {"app": Wrapped(labeled.app, existing_projects=fail_app)}
    with pytest.raises((LabelStudioUnavailableError, BucketUnavailableError)):
        settle(labeled, **parts)
    settle(labeled)

    assert all(f"{task_id}.json" in labeled.target.objects for task_id in ids(labeled))


def test_nothing_is_changed_in_another_project(labeled):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    labeled.app.delete_project(1)
    before = dict(labeled.target.objects)
    with pytest.raises(IdentityError):
        settle(labeled)

    assert labeled.target.objects == before


def test_nothing_can_be_settled_without_a_project(labeled):
    with pytest.raises(Killed):
        labeled.export(killed_at(labeled.target, "put", 1, before=True))
    labeled.app.delete_project(1)
    labeled.rebind("reload")
    settle(labeled)

    assert labeled.app.projects == {}

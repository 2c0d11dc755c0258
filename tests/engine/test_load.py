from dataclasses import replace

import pytest

from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketNotFoundError,
    ExternalSystemError,
    LabelStudioError,
    LabelStudioUnavailableError,
    LeaseLostError,
    ObjectRefusedError,
    TaskPartsLostError,
    TasksRefusedError,
)
from ls_pipeline.engine import import_queue, read_ahead, removals
from ls_pipeline.resources.ledger import objects
from ls_pipeline.resources.ledger.lease import LEASE_SECONDS
from ls_pipeline.settings.validation import build_connection
from tests.bench import RESULT, Bench

SOURCE = {"type": "s3", "path": "bucket"}


class Wrapped:
    """A bucket, app or ledger, some of whose methods a test replaces."""

    def __init__(self, part, **methods):
        self._part = part
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self._part, name)


def test_objects_become_tasks(bench):
    bench.put("a.json", {"text": "a"})
    bench.put("b.json", [{"text": "b0"}, {"data": {"text": "b1"}}])
    bench.put("c.jsonl", b'{"text": "c0"}\n{"text": "c1"}\n')
    bench.load()

    assert bench.tasks == {
        ("a.json", 0): {"text": "a"},
        ("b.json", 0): {"text": "b0"},
        ("b.json", 1): {"text": "b1"},
        ("c.jsonl", 0): {"text": "c0"},
        ("c.jsonl", 1): {"text": "c1"},
    }


def test_loading_twice_creates_each_task_once(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    second = bench.load()

    assert (second.tasks_created, second.changes) == (0, {Change.UNCHANGED: 1})
    assert len(bench.tasks) == 1


def test_blob_is_loaded_without_reading_it(bench):
    bench.set(use_blob_urls=True)
    bench.put("a b.png", b"\x89PNG")
    bench.load(bucket=Wrapped(bench.bucket, get=None))

    assert bench.tasks == {("a b.png", 0): {"text": "s3://bucket/a b.png"}}


def test_data_key_gets_the_blob_uri(bench):
    bench.set(use_blob_urls=True, data_key="text")
    bench.put("a.png", b"")
    bench.load()

    assert bench.tasks[("a.png", 0)] == {"text": "s3://bucket/a.png"}


def test_prefix_and_regex_select_objects(bench):
    bench.set(prefix="in", regex=r"in/.*\.json")
    for key in ("in/a.json", "in/a.txt", "in-old/a.json", "in/"):
        bench.put(key, {"text": key})
    bench.load()

    assert list(bench.tasks) == [("in/a.json", 0)]


def test_wider_filter_loads_what_it_now_matches(bench):
    bench.set(regex="a")
    bench.put("a.json", {"text": "a"})
    bench.put("b.json", {"text": "b"})
    bench.load()
    bench.set()
    bench.load()

    assert set(bench.tasks) == {("a.json", 0), ("b.json", 0)}


def test_bad_object_is_quarantined_and_all_others_load(bench):
    bench.put("a.json", {"text": "a"})
    bench.put("b.json", b"not json")
    bench.put("c.json", [{"text": "c"}, {"txt": "typo"}])
    bench.load()

    assert set(bench.tasks) == {("a.json", 0), ("c.json", 0)}
    assert set(bench.reasons) == {("b.json", None), ("c.json", 1)}


def test_new_version_releases_an_object_from_quarantine(bench):
    bench.put("a.json", b"not json")
    bench.load()
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert (set(bench.tasks), bench.reasons) == ({("a.json", 0)}, {})


def test_removed_object_leaves_quarantine(bench):
    bench.put("a.json", b"not json")
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert (bench.reasons, bench.connection_ledger.objects.count()[State.REMOVED]) == ({}, 0)


def test_bad_prediction_quarantines_only_its_row(bench):
    good = {"data": {"text": "a"}, "predictions": [{"result": RESULT}]}
    wrong = [{**RESULT[0], "value": {"choices": ["C"]}}]
    bench.put("a.json", [good, {"data": {"text": "b"}, "predictions": [{"result": wrong}]}])
    bench.load()

    assert (set(bench.tasks), set(bench.reasons)) == ({("a.json", 0)}, {("a.json", 1)})


def test_task_refused_by_label_studio_is_quarantined_alone(bench):
    def refuse_b(project_id, tasks):
        if any(task["data"]["text"] == "b" for task in tasks):
            raise TasksRefusedError("no b here", {})
        return bench.app.import_tasks(project_id, tasks)

    for key in "abcde":
        bench.put(key, {"text": key})
    bench.load(app=Wrapped(bench.app, import_tasks=refuse_b))

    assert {key for key, _ in bench.tasks} == set("acde")
    assert bench.reasons == {("b", 0): "no b here"}


def test_task_crashing_label_studio_is_quarantined_once_others_load(bench):
    def crash_at_a(project_id, tasks):
        if any(task["data"]["text"] == "a" for task in tasks):
            raise TasksRefusedError("500", {}, crashed=True)
        return bench.app.import_tasks(project_id, tasks)

    for key in "abc":
        bench.put(key, {"text": key})
    app = Wrapped(bench.app, import_tasks=crash_at_a)
    bench.load(app=app)
    second = bench.load(app=app)

    assert (set(bench.reasons), second.changes) == ({("a", 0)}, {Change.UNCHANGED: 3})


def test_task_crashing_label_studio_is_quarantined_after_recovery(bench):
    def crash_at_b(project_id, tasks):
        if any(task["data"]["text"] == "b" for task in tasks):
            raise TasksRefusedError("500", {}, crashed=True)
        bench.app.import_tasks(project_id, tasks)
        raise LabelStudioUnavailableError("the reply was lost")

    bench.put("a", [{"text": "a"}, {"text": "b"}])
    app = Wrapped(bench.app, import_tasks=crash_at_b)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=app)
    result = bench.load(app=app)

    assert (result.tasks_created, set(bench.reasons)) == (1, {("a", 1)})


def test_label_studio_crashing_at_everything_quarantines_nothing(bench):
    def crash(project_id, tasks):
        raise TasksRefusedError("500", {}, crashed=True)

    bench.put("a", {"text": "a"})

    with pytest.raises(LabelStudioError):
        bench.load(app=Wrapped(bench.app, import_tasks=crash))
    assert bench.reasons == {}


def test_replaced_object_updates_its_task(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    task_id = bench.task_id("a.json")
    bench.put("a.json", {"text": "new"})
    bench.load()

    assert (bench.tasks, bench.task_id("a.json")) == ({("a.json", 0): {"text": "new"}}, task_id)


def test_replaced_object_with_more_rows_adds_tasks(bench):
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    result = bench.load()

    assert (len(bench.tasks), result.tasks_created, result.tasks_updated) == (2, 1, 0)


def test_labeled_task_is_never_overwritten(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.put("a.json", {"text": "new"})
    result = bench.load()

    assert (bench.tasks[("a.json", 0)], result.tasks_kept) == ({"text": "old"}, 1)


def test_removed_object_keeps_its_tasks_and_is_counted(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.objects.count()[State.REMOVED]) == (1, 1)


@pytest.mark.parametrize("work", ["annotate", "draft"])
def test_on_delete_deletes_tasks_without_human_work(bench, work):
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.put("b.json", {"text": "b"})
    bench.load()
    getattr(bench.app, work)(bench.task_id("a.json", 1), RESULT)
    for key in ("a.json", "b.json"):
        bench.bucket.delete(key)
    result = bench.load()

    assert (list(bench.tasks), result.tasks_deleted) == ([("a.json", 1)], 2)
    assert "a person has worked on task" in result.notes[0]


def test_object_returning_after_task_deletion_is_a_new_task(bench):
    bench.set(on_delete="delete")
    for _ in range(2):
        bench.put("a.json", {"text": "a"})
        bench.load()
        counted = len(bench.tasks)
        bench.bucket.delete("a.json")
        bench.load()

    assert (counted, bench.tasks) == (1, {})


def test_on_delete_deletes_rows_missing_from_a_new_version(bench):
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    kept = list(bench.tasks)
    bench.put("a.json", b"not json")
    bench.load()

    assert kept == list(bench.tasks) == [("a.json", 0)]


def test_on_change_new_task_keeps_the_old_task(bench):
    bench.set(on_change="new_task")
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "new"})
    bench.load()
    bench.load()

    assert [task["data"]["text"] for task in bench.app.tasks.values()] == ["old", "new"]


def test_on_change_ignore_keeps_the_task(bench):
    bench.set(on_change="ignore")
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "new"})
    counts = [bench.load(bucket=Wrapped(bench.bucket, get=None)).tasks_kept for _ in range(2)]

    assert (bench.tasks, counts) == ({("a.json", 0): {"text": "old"}}, [1, 0])


def test_on_change_ignore_still_releases_quarantine(bench):
    bench.set(on_change="ignore")
    bench.put("a.json", b"not json")
    bench.put("b.json", [{"text": "b0"}, {"wrong": "b1"}])
    bench.load()
    bench.put("a.json", {"text": "a"})
    bench.put("b.json", [{"text": "b0 changed"}, {"text": "b1"}])
    bench.load()

    assert (bench.reasons, bench.tasks) == (
        {},
        {
            ("a.json", 0): {"text": "a"},
            ("b.json", 0): {"text": "b0"},
            ("b.json", 1): {"text": "b1"},
        },
    )


def test_quarantine_is_retried_after_the_params_change(bench):
    bench.put("a.png", b"\x89PNG")
    bench.load()
    before = bench.reasons
    bench.set(use_blob_urls=True)
    bench.load()

    assert list(before) == [("a.png", None)]
    assert (bench.reasons, list(bench.tasks)) == ({}, [("a.png", 0)])


def test_project_without_label_config_gets_tasks_and_a_note(bench):
    bench.ledger.save(build_connection("bare", source=SOURCE, target=None, project="Bare"), "test")
    bench.put("a.json", {"text": "a"})
    result = bench.load(connection_ledger=bench.ledger.connection_ledger("bare"))

    assert result.tasks_created == 1
    assert "no label config yet" in result.notes[0]


def test_object_returning_unchanged_keeps_its_task(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.objects.count()[State.REMOVED]) == (1, 0)


@pytest.fixture
def reused_id(bench):
    """Return the id of a.json's task, which a person deleted; the next task gets it again."""
    bench.set(on_delete="delete")
    bench.app.reuses_ids = True
    bench.put("a.json", {"text": "a"})
    bench.load()
    deleted = bench.task_id("a.json")
    bench.app.delete_task(deleted)
    return deleted


def replace_or_remove(bench, replaced):
    if replaced:
        bench.put("a.json", {"text": "a2"})
    else:
        bench.bucket.delete("a.json")
    bench.load()


@pytest.mark.parametrize("replaced", [True, False])
def test_persons_task_with_a_reused_id_is_left_alone(bench, reused_id, replaced):
    (theirs,) = bench.app.import_tasks(1, [{"data": {"text": "theirs"}}])
    assert theirs == reused_id
    replace_or_remove(bench, replaced)

    assert bench.app.tasks[theirs]["data"] == {"text": "theirs"}


@pytest.mark.parametrize("replaced", [True, False])
def test_reused_task_id_keeps_objects_apart(bench, reused_id, replaced):
    bench.put("b.json", {"text": "b"})
    bench.load()
    assert bench.task_id("b.json") == reused_id
    replace_or_remove(bench, replaced)

    texts = {key: data["text"] for (key, _), data in bench.tasks.items()}
    assert texts == {"b.json": "b", **({"a.json": "a2"} if replaced else {})}


def test_many_rows_are_imported_in_batches(bench):
    bench.put("a.json", [{"text": str(n)} for n in range(2 * import_queue.BATCH_ROWS + 1)])
    sizes = []

    def count(project_id, tasks):
        sizes.append(len(tasks))
        return bench.app.import_tasks(project_id, tasks)

    bench.load(app=Wrapped(bench.app, import_tasks=count))

    assert sizes == [import_queue.BATCH_ROWS, import_queue.BATCH_ROWS, 1]


def test_lost_reply_of_an_import_duplicates_nothing(bench):
    def lose_the_reply(project_id, tasks):
        bench.app.import_tasks(project_id, tasks)
        raise LabelStudioUnavailableError("timed out")

    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=lose_the_reply))
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.intents.open()) == (2, [])


def test_lost_ledger_recovers_existing_tasks(bench, tmp_path):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db")
    fresh.bucket, fresh.app = bench.bucket, bench.app
    fresh.rebind("take-over")
    fresh.load()

    assert len(fresh.tasks) == 2


def test_connection_removed_and_added_again_duplicates_nothing(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.ledger.remove("reviews")
    bench.set()
    bench.load()

    assert len(bench.tasks) == 1


def test_renamed_project_still_belongs_to_its_connection(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.projects[1] = ("Renamed by hand", bench.app.projects[1][1])
    bench.put("b.json", {"text": "b"})
    bench.load()

    assert (len(bench.tasks), len(bench.app.projects)) == (2, 1)


def test_missing_bucket_creates_no_project(bench):
    bench.bucket.exists = False

    with pytest.raises(BucketNotFoundError):
        bench.load()
    assert bench.app.projects == {}


def test_unreadable_object_is_reported_after_the_others_load(bench):
    def refuse_a(key, version=""):
        if key == "a.json":
            raise BucketAccessError("s3://bucket/a.json", "access is refused.")
        return bench.bucket.get(key, version)

    bench.put("a.json", {"text": "a"})
    bench.put("b.json", {"text": "b"})

    with pytest.raises(ExternalSystemError, match=r"s3://bucket/a\.json: access is refused"):
        bench.load(bucket=Wrapped(bench.bucket, get=refuse_a))
    assert set(bench.tasks) == {("b.json", 0)}


def test_object_refused_by_its_bucket_is_quarantined_alone(bench):
    def refuse_a(key, version=""):
        if key == "a.json":
            raise ObjectRefusedError("s3://bucket/a.json", "it is archived; restore it.")
        return bench.bucket.get(key, version)

    for key in "abc":
        bench.put(f"{key}.json", {"text": key})
    bench.load(bucket=Wrapped(bench.bucket, get=refuse_a))

    assert set(bench.tasks) == {("b.json", 0), ("c.json", 0)}
    assert bench.reasons == {("a.json", None): "s3://bucket/a.json: it is archived; restore it."}


def test_annotators_use_the_region_of_the_bucket(bench):
    bench.put("a.json", {"text": "a"})
    bench.bucket.region = "eu-west-1"
    bench.load()

    assert bench.app.storages == {(1, "s3", "bucket"): ("", "eu-west-1")}


def test_annotators_can_open_the_bucket(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert bench.app.storages == {(1, "s3", "bucket"): ("", "")}


def test_blobs_that_label_studio_can_not_open_are_one_note(bench):
    bench.set(use_blob_urls=True)
    for key in ("a?b.png", "/c.png", "d.png", "e#f;g.png"):
        bench.put(key, b"picture")
    result = bench.load()
    (note,) = result.notes

    assert note.startswith("Label Studio can't open 2 blobs, such as ")
    assert len(bench.tasks) == 4
    assert bench.load().notes == []


def test_annotators_can_open_media_buckets_at_the_same_store(bench):
    media = ["pictures", "gs://sounds"]
    bench.set(endpoint_url="https://s3.example.com", media_buckets=media)
    bench.load()

    assert bench.app.storages == {
        (1, "s3", "bucket"): ("https://s3.example.com", ""),
        (1, "s3", "pictures"): ("https://s3.example.com", ""),
        (1, "gs", "sounds"): ("", ""),
    }


def test_media_bucket_that_is_refused_hides_no_other(bench):
    def refuse(project_id, location, **options):
        if location.bucket == "closed":
            raise LabelStudioError("Label Studio can't open it.")
        bench.app.register_storage(project_id, location, **options)

    bench.set(media_buckets=["closed", "open"])
    result = bench.load(app=Wrapped(bench.app, register_storage=refuse))

    assert result.notes == ["Label Studio can't open it."]
    assert {bucket for _, _, bucket in bench.app.storages} == {"bucket", "open"}


def test_bucket_closed_to_annotators_is_only_a_note(bench):
    def refuse(*_, **_options):
        raise LabelStudioError("Label Studio can't open it.")

    bench.put("a.json", {"text": "a"})
    result = bench.load(app=Wrapped(bench.app, register_storage=refuse))

    assert (result.notes, len(bench.tasks)) == (["Label Studio can't open it."], 1)


def test_unanswered_registration_leaves_no_intent_open(bench):
    def fail(*_, **_options):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    bench.put("a.json", {"text": "a"})
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, register_storage=fail))

    assert (bench.tasks, bench.connection_ledger.intents.open()) == ({}, [])
    assert bench.load().tasks_created == 1


def test_overtaken_run_registers_no_storage_in_its_new_project(bench):
    """It does not look for one, and would miss that of the newer run."""
    registered = []

    def create(title, label_config):
        return replace(bench.app.create_project(title, label_config), is_new=True)

    def register(_project_id, location, **_options):
        registered.append(location.bucket)
        bench.time.sleep(LEASE_SECONDS + 1)
        bench.load()

    bench.set(media_buckets=["pictures"])
    with pytest.raises(LeaseLostError):
        bench.load(app=Wrapped(bench.app, create_project=create, register_storage=register))

    assert registered == ["bucket"]


def test_annotators_use_the_endpoint_of_the_connection(bench):
    bench.set(endpoint_url="https://s3.example.com", region_name="eu-west-3")
    bench.load()

    assert set(bench.app.storages.values()) == {("https://s3.example.com", "eu-west-3")}


# -- imports that Label Studio on SQLite repeats by itself ------------------------------------


WITH_PREDICTION = {"data": {"text": "a"}, "predictions": [{"result": RESULT}]}


def test_import_that_label_studio_stored_twice_is_one_task_a_row(bench):
    bench.app.stores_twice = 1
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    result = bench.load()

    assert len(bench.tasks) == result.tasks_created == 2
    assert {bench.task_id("a.json", row) for row in (0, 1)} == set(bench.app.tasks)


def test_tasks_that_lost_their_predictions_are_imported_again(bench):
    bench.app.loses_parts = 1
    bench.put("a.json", WITH_PREDICTION)
    result = bench.load()
    (task,) = bench.app.tasks.values()

    assert (len(task["predictions"]), result.tasks_created) == (1, 1)


def test_tasks_whose_second_copy_lost_its_predictions_keep_the_first(bench):
    bench.app.stores_twice = bench.app.loses_parts = 1
    bench.put("a.json", WITH_PREDICTION)
    bench.load()
    (task,) = bench.app.tasks.values()

    assert len(task["predictions"]) == 1
    assert bench.task_id("a.json") == task["id"]


def test_predictions_that_are_lost_each_time_fail_the_run_and_leave_no_task(bench):
    bench.app.loses_parts = 10
    bench.put("a.json", WITH_PREDICTION)
    with pytest.raises(TaskPartsLostError):
        bench.load()

    assert bench.tasks == {}


@pytest.mark.parametrize("few_rows", [0, 3, 4, 100])
def test_rows_are_compared_however_many_are_known(bench, monkeypatch, few_rows):
    monkeypatch.setattr(objects, "FEW_ROWS", few_rows)
    bench.set(on_delete="delete")
    rows = {key: [{"text": f"{key}{n}"} for n in range(4)] for key in "abc"}
    for key, content in rows.items():
        bench.put(key, content)
    bench.load()
    bench.put("a", [rows["a"][0], 1, {"text": "new"}])
    bench.put("b.jsonl", b'\n\n{"text": "b"}')
    bench.bucket.delete("b")
    bench.put("c", [])
    result = bench.load()

    assert {key: data["text"] for key, data in bench.tasks.items()} == {
        ("a", 0): "a0",
        ("a", 1): "a1",
        ("a", 2): "new",
        ("b.jsonl", 2): "b",
        **{("c", n): f"c{n}" for n in range(4)},
    }
    assert (result.tasks_deleted, result.tasks_updated, result.tasks_created) == (5, 1, 1)


def test_tasks_of_many_gone_rows_are_deleted_in_batches(bench, monkeypatch):
    monkeypatch.setattr(removals, "BATCH_ROWS", 3)
    bench.set(on_delete="delete")
    for key in "abc":
        bench.put(key, [{"text": f"{key}{n}"} for n in range(7)])
    bench.load()
    bench.app.annotate(bench.task_id("a", 0), RESULT)
    bench.put("a", {"text": "a"})
    bench.bucket.delete("b")
    result = bench.load(allow_mass_change=True)

    assert {key for key, _ in bench.tasks} == {"a", "c"}
    assert (result.tasks_deleted, len(bench.tasks)) == (13, 8)
    assert bench.connection_ledger.intents.open() == []
    assert bench.connection_ledger.objects.count()[State.LOADED] == 2


def test_contents_wait_only_as_far_as_they_fit(bench, monkeypatch):
    monkeypatch.setattr(read_ahead, "READ_AHEAD_BYTES", 100)
    held, most = set(), []

    class Content(bytes):
        """Bytes that say when they are gone."""

        def __del__(self):
            held.discard(self[:40])

    def get(key, version=""):
        body = Content(bench.bucket.get(key, version))
        held.add(body[:40])
        most.append(len(held))
        return body

    for n in range(9):
        bench.put(f"{n}.json", {"text": str(n) * 30})
    bench.put("z.json", {"text": "z" * 300})
    bench.load(bucket=Wrapped(bench.bucket, get=get))

    assert len(bench.tasks) == 10
    assert max(most) <= 3
    assert most[-1] == 1

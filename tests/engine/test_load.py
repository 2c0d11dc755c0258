import pytest

from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketNotFoundError,
    ExternalSystemError,
    LabelStudioError,
    LabelStudioUnavailableError,
    ObjectRefusedError,
    TasksRefusedError,
)
from ls_pipeline.engine import import_queue
from ls_pipeline.settings.validation import build_connection
from tests.bench import RESULT, Bench

SOURCE = {"type": "s3", "path": "bucket"}


class Wrapped:
    """A part with some methods of ours in place of its own."""

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


def test_loading_twice_is_loading_once(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    again = bench.load()

    assert (again.tasks_created, again.changes) == (0, {Change.UNCHANGED: 1})
    assert len(bench.tasks) == 1


def test_blob_is_not_read(bench):
    bench.set(use_blob_urls=True)
    bench.put("a b.png", b"\x89PNG")
    bench.load(bucket=Wrapped(bench.bucket, get=None))

    assert bench.tasks == {("a b.png", 0): {"text": "s3://bucket/a b.png"}}


def test_given_data_key_takes_the_blobs_uri(bench):
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


def test_wider_filter_brings_in_what_it_now_matches(bench):
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


def test_new_version_frees_an_object_from_quarantine(bench):
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


def test_bad_prediction_is_quarantined_row_exact(bench):
    good = {"data": {"text": "a"}, "predictions": [{"result": RESULT}]}
    wrong = [{**RESULT[0], "value": {"choices": ["C"]}}]
    bench.put("a.json", [good, {"data": {"text": "b"}, "predictions": [{"result": wrong}]}])
    bench.load()

    assert (set(bench.tasks), set(bench.reasons)) == ({("a.json", 0)}, {("a.json", 1)})


def test_task_that_label_studio_refuses_is_quarantined_alone(bench):
    def refuse_b(project_id, tasks):
        if any(task["data"]["text"] == "b" for task in tasks):
            raise TasksRefusedError("no b here", {})
        return bench.app.import_tasks(project_id, tasks)

    for key in "abcde":
        bench.put(key, {"text": key})
    bench.load(app=Wrapped(bench.app, import_tasks=refuse_b))

    assert {key for key, _ in bench.tasks} == set("acde")
    assert bench.reasons == {("b", 0): "no b here"}


def test_task_that_crashes_label_studio_is_blamed_when_others_got_in(bench):
    def crash_at_a(project_id, tasks):
        if any(task["data"]["text"] == "a" for task in tasks):
            raise TasksRefusedError("500", {}, crashed=True)
        return bench.app.import_tasks(project_id, tasks)

    for key in "abc":
        bench.put(key, {"text": key})
    app = Wrapped(bench.app, import_tasks=crash_at_a)
    bench.load(app=app)
    again = bench.load(app=app)

    assert (set(bench.reasons), again.changes) == ({("a", 0)}, {Change.UNCHANGED: 3})


def test_task_that_crashes_label_studio_is_blamed_when_others_turn_out_to_have_got_in(bench):
    def crash_at_b(project_id, tasks):
        if any(task["data"]["text"] == "b" for task in tasks):
            raise TasksRefusedError("500", {}, crashed=True)
        bench.app.import_tasks(project_id, tasks)
        raise LabelStudioUnavailableError("the reply was lost")

    bench.put("a", [{"text": "a"}, {"text": "b"}])
    app = Wrapped(bench.app, import_tasks=crash_at_b)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=app)
    done = bench.load(app=app)

    assert (done.tasks_created, set(bench.reasons)) == (1, {("a", 1)})


def test_label_studio_that_crashes_at_everything_is_not_blamed_on_the_tasks(bench):
    def crash(project_id, tasks):
        raise TasksRefusedError("500", {}, crashed=True)

    bench.put("a", {"text": "a"})

    with pytest.raises(LabelStudioError):
        bench.load(app=Wrapped(bench.app, import_tasks=crash))
    assert bench.reasons == {}


def test_replaced_object_updates_its_task(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    number = bench.task_id("a.json")
    bench.put("a.json", {"text": "new"})
    bench.load()

    assert (bench.tasks, bench.task_id("a.json")) == ({("a.json", 0): {"text": "new"}}, number)


def test_replaced_object_with_more_rows_adds_tasks(bench):
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    done = bench.load()

    assert (len(bench.tasks), done.tasks_created, done.tasks_updated) == (2, 1, 0)


def test_labeled_task_is_never_overwritten(bench):
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.put("a.json", {"text": "new"})
    done = bench.load()

    assert (bench.tasks[("a.json", 0)], done.tasks_kept) == ({"text": "old"}, 1)


def test_removed_object_keeps_its_tasks_and_is_counted(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.objects.count()[State.REMOVED]) == (1, 1)


@pytest.mark.parametrize("work", ["annotate", "draft"])
def test_tasks_of_removed_objects_are_deleted_on_demand_but_never_a_humans_work(bench, work):
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.put("b.json", {"text": "b"})
    bench.load()
    getattr(bench.app, work)(bench.task_id("a.json", 1), RESULT)
    for key in ("a.json", "b.json"):
        bench.bucket.delete(key)
    done = bench.load()

    assert (list(bench.tasks), done.tasks_deleted) == ([("a.json", 1)], 2)
    assert "a person has worked on task" in done.notes[0]


def test_object_that_comes_back_after_its_task_was_deleted_is_a_new_task(bench):
    bench.set(on_delete="delete")
    for _ in range(2):
        bench.put("a.json", {"text": "a"})
        bench.load()
        counted = len(bench.tasks)
        bench.bucket.delete("a.json")
        bench.load()

    assert (counted, bench.tasks) == (1, {})


def test_rows_that_a_new_version_lacks_are_deleted_on_demand(bench):
    bench.set(on_delete="delete")
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    bench.put("a.json", [{"text": "0"}])
    bench.load()
    kept = list(bench.tasks)
    bench.put("a.json", b"not json")
    bench.load()

    assert kept == list(bench.tasks) == [("a.json", 0)]


def test_replaced_object_becomes_a_new_task_beside_the_old_one_on_demand(bench):
    bench.set(on_change="new_task")
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "new"})
    bench.load()
    bench.load()

    assert [task["data"]["text"] for task in bench.app.tasks.values()] == ["old", "new"]


def test_replaced_object_is_ignored_on_demand(bench):
    bench.set(on_change="ignore")
    bench.put("a.json", {"text": "old"})
    bench.load()
    bench.put("a.json", {"text": "new"})
    counts = [bench.load(bucket=Wrapped(bench.bucket, get=None)).tasks_kept for _ in range(2)]

    assert (bench.tasks, counts) == ({("a.json", 0): {"text": "old"}}, [1, 0])


def test_ignoring_changes_does_not_keep_an_object_in_quarantine(bench):
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


def test_quarantine_is_tried_again_once_objects_are_read_otherwise(bench):
    bench.put("a.png", b"\x89PNG")
    bench.load()
    before = bench.reasons
    bench.set(use_blob_urls=True)
    bench.load()

    assert list(before) == [("a.png", None)]
    assert (bench.reasons, list(bench.tasks)) == ({}, [("a.png", 0)])


def test_project_without_a_label_config_takes_tasks_and_says_so(bench):
    bench.ledger.save(build_connection("bare", source=SOURCE, target=None, project="Bare"), "test")
    bench.put("a.json", {"text": "a"})
    done = bench.load(connection_ledger=bench.ledger.connection_ledger("bare"))

    assert done.tasks_created == 1
    assert "no label config yet" in done.notes[0]


def test_object_that_comes_back_unchanged_makes_no_second_task(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.objects.count()[State.REMOVED]) == (1, 0)


@pytest.fixture
def freed(bench):
    """Give the id of a.json's task, which a person deleted, and which the next task gets."""
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
def test_task_of_a_person_that_got_the_id_of_a_deleted_one_is_left_alone(bench, freed, replaced):
    (theirs,) = bench.app.import_tasks(1, [{"data": {"text": "theirs"}}])
    assert theirs == freed
    replace_or_remove(bench, replaced)

    assert bench.app.tasks[theirs]["data"] == {"text": "theirs"}


@pytest.mark.parametrize("replaced", [True, False])
def test_task_that_got_the_id_of_a_deleted_one_is_not_taken_for_it(bench, freed, replaced):
    bench.put("b.json", {"text": "b"})
    bench.load()
    assert bench.task_id("b.json") == freed
    replace_or_remove(bench, replaced)

    texts = {key: data["text"] for (key, _), data in bench.tasks.items()}
    assert texts == {"b.json": "b", **({"a.json": "a2"} if replaced else {})}


def test_many_rows_travel_in_batches(bench):
    bench.put("a.json", [{"text": str(n)} for n in range(2 * import_queue.BATCH_ROWS + 1)])
    sizes = []

    def count(project_id, tasks):
        sizes.append(len(tasks))
        return bench.app.import_tasks(project_id, tasks)

    bench.load(app=Wrapped(bench.app, import_tasks=count))

    assert sizes == [import_queue.BATCH_ROWS, import_queue.BATCH_ROWS, 1]


def test_lost_reply_of_an_import_doubles_nothing(bench):
    def lose_the_reply(project_id, tasks):
        bench.app.import_tasks(project_id, tasks)
        raise LabelStudioUnavailableError("timed out")

    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=lose_the_reply))
    bench.load()

    assert (len(bench.tasks), bench.connection_ledger.imports.pending()) == (2, [])


def test_lost_ledger_takes_up_the_tasks_that_exist(bench, tmp_path):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()
    fresh = Bench(f"sqlite:///{tmp_path}/fresh.db")
    fresh.bucket, fresh.app = bench.bucket, bench.app
    fresh.load()

    assert len(fresh.tasks) == 2


def test_removed_connection_that_comes_back_doubles_nothing(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.ledger.remove("reviews")
    bench.set()
    bench.load()

    assert len(bench.tasks) == 1


def test_renamed_project_stays_the_connections(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.projects[1] = ("Renamed by hand", bench.app.projects[1][1])
    bench.put("b.json", {"text": "b"})
    bench.load()

    assert (len(bench.tasks), len(bench.app.projects)) == (2, 1)


def test_missing_bucket_makes_no_project(bench):
    bench.bucket.exists = False

    with pytest.raises(BucketNotFoundError):
        bench.load()
    assert bench.app.projects == {}


def test_object_that_may_not_be_read_is_reported_after_all_others_are_loaded(bench):
    def refuse_a(key, version=""):
        if key == "a.json":
            raise BucketAccessError("s3://bucket/a.json", "access is refused.")
        return bench.bucket.get(key, version)

    bench.put("a.json", {"text": "a"})
    bench.put("b.json", {"text": "b"})

    with pytest.raises(ExternalSystemError, match=r"s3://bucket/a\.json: access is refused"):
        bench.load(bucket=Wrapped(bench.bucket, get=refuse_a))
    assert set(bench.tasks) == {("b.json", 0)}


def test_object_that_is_refused_for_what_it_is_is_quarantined_and_holds_nobody_up(bench):
    def refuse_a(key, version=""):
        if key == "a.json":
            raise ObjectRefusedError("s3://bucket/a.json", "it is archived; restore it.")
        return bench.bucket.get(key, version)

    for key in "abc":
        bench.put(f"{key}.json", {"text": key})
    bench.load(bucket=Wrapped(bench.bucket, get=refuse_a))

    assert set(bench.tasks) == {("b.json", 0), ("c.json", 0)}
    assert bench.reasons == {("a.json", None): "s3://bucket/a.json: it is archived; restore it."}


def test_annotators_open_the_bucket_in_its_region(bench):
    bench.put("a.json", {"text": "a"})
    bench.bucket.region = "eu-west-1"
    bench.load()

    assert bench.app.storages == {(1, "s3", "bucket"): ("", "eu-west-1")}


def test_annotators_can_open_the_bucket(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert bench.app.storages == {(1, "s3", "bucket"): ("", "")}


def test_bucket_that_annotators_can_not_open_is_a_note_and_tasks_load(bench):
    def refuse(*_):
        raise LabelStudioError("Label Studio can't open it.")

    bench.put("a.json", {"text": "a"})
    done = bench.load(app=Wrapped(bench.app, register_storage=refuse))

    assert (done.notes, len(bench.tasks)) == (["Label Studio can't open it."], 1)


def test_annotators_open_the_bucket_at_the_endpoint_of_the_connection(bench):
    bench.set(endpoint_url="https://s3.example.com", region_name="eu-west-3")
    bench.load()

    assert set(bench.app.storages.values()) == {("https://s3.example.com", "eu-west-3")}

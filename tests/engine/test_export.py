import json
from datetime import datetime, timedelta, timezone
from threading import Event
from time import sleep

import dagster as dg
import pytest

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    ExternalSystemError,
    IdentityError,
    LeaseLostError,
    ObjectRefusedError,
)
from ls_pipeline.domain.exports import is_completion_key
from ls_pipeline.engine import completion_files, export
from ls_pipeline.engine.projects import (
    FIRST_PAGE_TASKS,
    PAGE_BYTES,
    PAGE_TASKS,
    next_page_tasks,
)
from ls_pipeline.sensors.completions import completions_tick
from tests.bench import RESULT
from tests.engine.test_load import Wrapped


@pytest.fixture
def labeled(bench):
    bench.fill(("a", "b", "c"), labeled=("a", "b"))
    return bench


def timestamp(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def documents(bench):
    return {key: json.loads(body) for key, body in bench.files.items()}


def test_completions_are_written_as_one_file_per_task(labeled):
    labeled.export()
    a, b = labeled.task_id("a.json"), labeled.task_id("b.json")

    assert set(documents(labeled)) == {f"{a}.json", f"{b}.json"}
    assert documents(labeled)[f"{a}.json"]["annotations"][0]["result"] == RESULT


def test_exporting_twice_writes_once(labeled):
    labeled.export()
    second = labeled.export(target=Wrapped(labeled.target, put=None))

    assert (second.written, second.unchanged) == (0, 0)


def test_immediate_second_export_lists_nothing(labeled):
    labeled.export()
    labeled.export(app=Wrapped(labeled.app, task_states=None))
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    result = labeled.export()
    labeled.export(app=Wrapped(labeled.app, task_states=None))

    assert result.written == 1


def test_uncounted_labels_are_exported_and_reported(labeled):
    a, c = labeled.task_id("a.json"), labeled.task_id("c.json")
    labeled.export()
    labeled.app.counts = False
    labeled.app.annotate(c, RESULT)
    labeled.app.annotate(a, RESULT)
    result = labeled.export()
    second = labeled.export(has_changed=True)

    assert (result.written, result.deleted, result.uncounted) == (2, 0, [c])
    assert (second.selected, second.deleted, second.uncounted) == (0, 0, [c])
    assert len(documents(labeled)[f"{c}.json"]["annotations"]) == 1


def test_uncounted_label_during_an_export_requests_a_run(labeled, instance):
    labeled.app.counts = False
    c = labeled.task_id("c.json")

    def annotate_c(*arguments, **options):
        if not labeled.app.tasks[c]["annotations"]:
            labeled.app.annotate(c, RESULT)
        return labeled.target.put(*arguments, **options)

    labeled.export(target=Wrapped(labeled.target, put=annotate_c))
    tick = completions_tick(dg.build_sensor_context(instance=instance), labeled.ledger, labeled.app)

    assert len(tick.run_requests) == 1


def test_label_being_submitted_is_not_reported_as_uncounted(labeled):
    c = labeled.task_id("c.json")
    labeled.app.annotate(c, RESULT)
    uncounted = iter([[c], []])
    result = labeled.export(app=Wrapped(labeled.app, uncounted_tasks=lambda *_: next(uncounted)))

    assert (result.written, result.uncounted) == (3, [])


def test_export_requested_by_a_sensor_lists_the_tasks(labeled):
    labeled.export()
    listed = []
    app = Wrapped(labeled.app, task_states=lambda *arguments: listed.append(arguments) or iter(()))
    labeled.export(app=app, has_changed=True)

    assert len(listed) == 1


def test_label_studio_clock_set_back_hides_no_label(labeled):
    labeled.export()
    back = (datetime.now(timezone.utc) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    c = labeled.app.tasks[labeled.task_id("c.json")]
    labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = back
    app = Wrapped(labeled.app, now=lambda: back)
    written = [labeled.export(app=app).written for _ in range(2)]

    assert sum(written) == 1


@pytest.mark.parametrize("later", [timedelta(), timedelta(minutes=5)])
def test_label_is_exported_whenever_the_clock_was_set_back(labeled, later):
    labeled.export()
    back = datetime.now(timezone.utc) - timedelta(hours=1)
    a, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "ac")
    labeled.app.annotate(c["id"], RESULT)
    labeled.app.edit(a["id"], [])
    a["updated_at"] = c["updated_at"] = timestamp(back)
    result = labeled.export(app=Wrapped(labeled.app, now=lambda: timestamp(back + later)))

    assert result.written == 2


def test_missed_label_is_exported_with_the_next_one(labeled):
    labeled.export()
    b, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "bc")
    labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = timestamp(datetime.now(timezone.utc) - timedelta(hours=1))
    labeled.app.annotate(b["id"], RESULT)
    labeled.export()

    assert documents(labeled).keys() == {f"{labeled.task_id(f'{key}.json')}.json" for key in "abc"}


def test_overtaken_export_leaves_the_newer_files_alone(labeled):
    task_id, deleted = labeled.task_id("a.json"), labeled.task_id("b.json")

    def sleep(*arguments, **options):
        if not slept and "mark" not in arguments[0]:
            slept.append(arguments)
            labeled.time.sleep(3600)  # its lease runs out
            labeled.app.edit(task_id, [])
            labeled.app.delete_task(deleted)
            labeled.export()
        return labeled.target.put(*arguments, **options)

    slept = []
    with pytest.raises(LeaseLostError):
        labeled.export(target=Wrapped(labeled.target, put=sleep))

    assert documents(labeled)[f"{task_id}.json"]["annotations"][0]["result"] == []
    assert documents(labeled).get(f"{deleted}.json", {"deleted": True})["deleted"]
    assert labeled.export().written == 0


def test_target_changed_during_an_export_is_exported_again(labeled):
    a, b = (labeled.task_id(f"{key}.json") for key in "ab")
    labeled.set(target={"regex": rf"{a}\.json"})

    def widen(project_id):
        labeled.set(target={})
        return labeled.app.count_annotated(project_id)

    labeled.export(app=Wrapped(labeled.app, count_annotated=widen))
    labeled.export()

    assert set(documents(labeled)) == {f"{a}.json", f"{b}.json"}


def test_late_label_hidden_by_a_deletion_is_exported(labeled, monkeypatch):
    a, b, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "abc")
    c["updated_at"] = "2020-01-01T00:00:00.000000Z"
    labeled.export()
    annotation = labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = a["updated_at"]  # submitted before the export, and stored after it
    labeled.app.delete_task(a["id"])
    at_once = labeled.export()
    monkeypatch.setattr(export, "SAME_FOR", timedelta())
    later = labeled.export()

    assert b["updated_at"] > c["updated_at"]
    assert (at_once.written, later.written) == (0, 1)
    assert documents(labeled)[f"{c['id']}.json"]["annotations"][0]["id"] == annotation


def test_another_annotation_rewrites_the_document(labeled):
    labeled.export()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    result = labeled.export()

    assert result.written == 1


def test_deleted_annotation_empties_the_document(labeled):
    labeled.export()
    task_id = labeled.task_id("a.json")
    labeled.app.delete_annotation(labeled.app.tasks[task_id]["annotations"][0]["id"])
    result = labeled.export()

    assert (result.emptied, documents(labeled)[f"{task_id}.json"]["annotations"]) == (1, [])


def test_deleted_task_becomes_a_tombstone_once(labeled):
    labeled.export()
    task_id = labeled.task_id("a.json")
    labeled.app.delete_task(task_id)
    result = labeled.export()
    second = labeled.export(target=Wrapped(labeled.target, put=None))

    assert (result.deleted, second.deleted) == (1, 0)
    assert documents(labeled)[f"{task_id}.json"] == {
        "id": task_id,
        "deleted": True,
        "annotations": [],
    }


def test_deletion_and_new_label_are_both_exported(labeled):
    labeled.export()
    task_id = labeled.task_id("a.json")
    labeled.app.delete_task(task_id)
    labeled.app.annotate(labeled.task_id("c.json"), RESULT)
    result = labeled.export()

    assert (result.deleted, result.written) == (1, 1)


def test_deleted_task_without_an_export_leaves_no_tombstone(labeled):
    labeled.export()
    task_id = labeled.task_id("c.json")
    labeled.app.delete_task(task_id)
    labeled.export()

    assert f"{task_id}.json" not in documents(labeled)


@pytest.mark.parametrize("deleted", ["task", "annotation"])
def test_delete_param_deletes_the_file(labeled, deleted):
    labeled.set(target={"delete": True})
    labeled.export()
    task_id = labeled.task_id("a.json")
    if deleted == "task":
        labeled.app.delete_task(task_id)
    else:
        labeled.app.delete_annotation(labeled.app.tasks[task_id]["annotations"][0]["id"])
    labeled.export()
    labeled.export(target=Wrapped(labeled.target, put=None))

    assert set(documents(labeled)) == {f"{labeled.task_id('b.json')}.json"}


def test_deleted_project_fails_the_export_and_changes_nothing(labeled):
    labeled.export()
    before = dict(labeled.target.objects)
    labeled.app.projects.clear()
    with pytest.raises(IdentityError):
        labeled.export()

    assert labeled.target.objects == before


def test_new_target_prefix_gets_all_completions(labeled):
    labeled.export()
    labeled.set(target={"prefix": "v2"})
    result = labeled.export()

    task_id = labeled.task_id("a.json")
    assert (result.written, f"v2/{task_id}.json" in labeled.target.objects) == (2, True)


def test_target_regex_selects_what_is_written(labeled):
    task_id = labeled.task_id("a.json")
    labeled.set(target={"regex": rf"{task_id}\.json"})
    labeled.export()

    assert set(documents(labeled)) == {f"{task_id}.json"}


def test_failed_upload_is_not_counted_and_is_repeated(labeled):
    def fail(*_, **_options):
        raise BucketUnavailableError("s3://labels/1.json", "down")

    with pytest.raises(BucketUnavailableError):
        labeled.export(target=Wrapped(labeled.target, put=fail))
    result = labeled.export()

    assert result.written == 2


class Refusing(Wrapped):
    """A target that lets nobody write or delete one file."""

    def __init__(self, target, key, kind=BucketAccessError):
        def refuse(do):
            def call(name, *args, **options):
                if name == key:
                    raise kind(f"s3://labels/{key}", "access is refused.")
                return do(name, *args, **options)

            return call

        super().__init__(target, put=refuse(target.put), delete=refuse(target.delete))


@pytest.mark.parametrize("kind", [BucketAccessError, ObjectRefusedError])
def test_file_that_the_target_refuses_holds_up_no_other(labeled, kind):
    key, other = (f"{labeled.task_id(f'{name}.json')}.json" for name in "ab")
    target = Refusing(labeled.target, key, kind)
    for _ in range(2):
        with pytest.raises(ExternalSystemError, match=f"s3://labels/{key}: access is refused"):
            labeled.export(target=target)
        assert set(documents(labeled)) == {other}
        labeled.app.edit(int(other.split(".")[0]), [])
    labeled.export()

    assert set(documents(labeled)) == {key, other}
    assert documents(labeled)[other]["annotations"][0]["result"] == []


@pytest.mark.parametrize("kind", [BucketAccessError, ObjectRefusedError])
@pytest.mark.parametrize("delete", [True, False])
def test_tombstone_that_the_target_refuses_holds_up_no_other(labeled, delete, kind):
    labeled.set(target={"delete": delete})
    labeled.export()
    ids = [labeled.task_id(f"{name}.json") for name in "ab"]
    for task_id in ids:
        labeled.app.delete_task(task_id)
    with pytest.raises(ExternalSystemError, match="access is refused"):
        labeled.export(target=Refusing(labeled.target, f"{ids[0]}.json", kind))
    left = documents(labeled)
    labeled.export()

    assert "deleted" not in left[f"{ids[0]}.json"]
    assert f"{ids[1]}.json" not in left or left[f"{ids[1]}.json"]["deleted"]
    assert all(each["deleted"] for each in documents(labeled).values())


def test_target_that_refuses_everything_is_an_error_soon(labeled):
    def refuse(*_, **_options):
        refused.append(1)
        raise BucketAccessError("s3://labels/", "access is refused.")

    refused = []
    with pytest.raises(ExternalSystemError, match="access is refused"):
        labeled.export(target=Wrapped(labeled.target, put=refuse))

    assert len(refused) <= 2 * completion_files.REFUSED_AT_MOST


def test_tasks_of_another_connection_are_not_exported(labeled):
    task = labeled.app.tasks[labeled.task_id("a.json")]
    task["meta"]["ls_pipeline"]["connection"] = "other"
    labeled.export()

    assert set(documents(labeled)) == {f"{labeled.task_id('b.json')}.json"}


def test_task_made_by_hand_is_exported_too(labeled):
    (task_id,) = labeled.app.import_tasks(1, [{"data": {"text": "by hand"}}])
    labeled.app.annotate(task_id, RESULT)
    labeled.export()

    assert f"{task_id}.json" in documents(labeled)


def test_exported_document_can_be_loaded_again(labeled):
    labeled.export()
    task_id = labeled.task_id("a.json")
    labeled.put("again.json", labeled.target.objects[f"{task_id}.json"])
    labeled.load()
    reloaded = labeled.app.tasks[labeled.task_id("again.json")]

    assert reloaded["annotations"][0]["result"] == RESULT


@pytest.mark.parametrize(
    ("tasks", "size", "following"),
    [
        (20, 20, 80),
        (PAGE_TASKS // 2, 100, PAGE_TASKS),
        (PAGE_TASKS, 4 * PAGE_BYTES, PAGE_TASKS // 4),
        (20, 20 * PAGE_BYTES, 1),
        (1, 9 * PAGE_BYTES, 1),
        (1, 0, 4),
    ],
)
def test_next_page_has_as_many_tasks_as_fit(tasks, size, following):
    assert next_page_tasks(tasks, size) == following


def test_large_completions_are_read_few_at_a_time(bench, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.projects.PAGE_BYTES", 3000)
    total = 2 * FIRST_PAGE_TASKS
    bench.fill(range(total), labeled=range(total))
    for task in bench.app.tasks.values():
        task["data"]["text"] = "x" * 1000
    asked = []

    def completions(project_id, ids):
        asked.append(len(ids))
        return bench.app.completions(project_id, ids)

    bench.export(app=Wrapped(bench.app, completions=completions))

    assert (asked[0], set(asked[1:])) == (FIRST_PAGE_TASKS, {2})
    assert sum(asked) == total


def test_next_intent_is_recorded_while_files_are_written(bench):
    def raise_mark(*mark):
        raised.set()
        return bench.app.raise_mark(*mark)

    def put(key, *args, **options):
        overlapped.append(is_completion_key("", key) and raised.wait(10))
        return bench.target.put(key, *args, **options)

    bench.fill(range(FIRST_PAGE_TASKS + 1), labeled=range(FIRST_PAGE_TASKS + 1))
    raised, overlapped = Event(), []
    target = Wrapped(bench.target, put=put)
    bench.export(target=target, app=Wrapped(bench.app, raise_mark=raise_mark))

    assert overlapped.count(True) == FIRST_PAGE_TASKS + 1


def test_next_page_is_read_while_an_intent_is_recorded(bench):
    def completions(project_id, ids):
        if len(ids) < FIRST_PAGE_TASKS:  # the second page
            read.set()
        return bench.app.completions(project_id, ids)

    def add_mark(*mark):
        overlapped.append(read.wait(10))
        return bench.app.add_mark(*mark)

    bench.fill(range(FIRST_PAGE_TASKS + 1), labeled=range(FIRST_PAGE_TASKS + 1))
    read, overlapped = Event(), []
    bench.export(app=Wrapped(bench.app, completions=completions, add_mark=add_mark))

    assert overlapped == [True]


def test_failed_export_records_nothing_more(bench):
    def completions(project_id, ids):
        if len(ids) < FIRST_PAGE_TASKS:  # the second page
            failed.wait(10)
            sleep(0.05)
        return bench.app.completions(project_id, ids)

    def put(key, *args, **options):
        if is_completion_key("", key):
            failed.set()
            raise BucketUnavailableError(key, "it is down.")
        return bench.target.put(key, *args, **options)

    bench.fill(range(FIRST_PAGE_TASKS + 1), labeled=range(FIRST_PAGE_TASKS + 1))
    failed = Event()
    app, target = Wrapped(bench.app, completions=completions), Wrapped(bench.target, put=put)
    with pytest.raises(BucketUnavailableError) as caught:
        bench.export(target=target, app=app)
    begun = len(bench.connection_ledger.intents.open())
    del caught  # which keeps the frames of the export
    bench.export()

    assert begun == 2
    assert len(documents(bench)) == FIRST_PAGE_TASKS + 1

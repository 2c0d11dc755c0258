import json
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from ls_pipeline.domain.errors import BucketUnavailableError, LeaseLostError, ProjectNotFoundError
from ls_pipeline.engine import export
from ls_pipeline.sensors.completions import completions_tick
from tests.bench import RESULT
from tests.engine.test_load import Wrapped


@pytest.fixture
def labeled(bench):
    for key in ("a", "b", "c"):
        bench.put(f"{key}.json", {"text": key})
    bench.load()
    for key in ("a", "b"):
        bench.app.annotate(bench.task_id(f"{key}.json"), RESULT)
    return bench


def moment(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def documents(bench):
    return {key: json.loads(body) for key, body in bench.target.objects.items()}


def test_completions_are_written_one_file_a_task(labeled):
    labeled.export()
    a, b = labeled.task_id("a.json"), labeled.task_id("b.json")

    assert set(documents(labeled)) == {f"{a}.json", f"{b}.json"}
    assert documents(labeled)[f"{a}.json"]["annotations"][0]["result"] == RESULT


def test_exporting_twice_writes_once(labeled):
    labeled.export()
    again = labeled.export(target=Wrapped(labeled.target, put=None))

    assert (again.written, again.unchanged) == (0, 0)


def test_export_that_follows_at_once_lists_nothing(labeled):
    labeled.export()
    labeled.export(app=Wrapped(labeled.app, task_states=None))
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    done = labeled.export()
    labeled.export(app=Wrapped(labeled.app, task_states=None))

    assert done.written == 1


def test_labels_of_which_label_studio_lost_count_are_exported_and_told(labeled):
    a, c = labeled.task_id("a.json"), labeled.task_id("c.json")
    labeled.export()
    labeled.app.counts = False
    labeled.app.annotate(c, RESULT)
    labeled.app.annotate(a, RESULT)
    done = labeled.export()
    again = labeled.export(has_changed=True)

    assert (done.written, done.deleted, done.uncounted) == (2, 0, [c])
    assert (again.selected, again.deleted, again.uncounted) == (0, 0, [c])
    assert len(documents(labeled)[f"{c}.json"]["annotations"]) == 1


def test_label_of_lost_count_that_comes_during_an_export_is_asked_for(labeled, instance):
    labeled.app.counts = False
    c = labeled.task_id("c.json")

    def annotate_c(*asked):
        if not labeled.app.tasks[c]["annotations"]:
            labeled.app.annotate(c, RESULT)
        return labeled.target.put(*asked)

    labeled.export(target=Wrapped(labeled.target, put=annotate_c))
    look = completions_tick(dg.build_sensor_context(instance=instance), labeled.ledger, labeled.app)

    assert len(look.run_requests) == 1


def test_label_that_is_being_given_is_no_miscount(labeled):
    c = labeled.task_id("c.json")
    labeled.app.annotate(c, RESULT)
    seen = iter([[c], []])
    done = labeled.export(app=Wrapped(labeled.app, uncounted_tasks=lambda *_: next(seen)))

    assert (done.written, done.uncounted) == (3, [])


def test_export_that_a_sensor_saw_a_difference_for_lists(labeled):
    labeled.export()
    listed = []
    app = Wrapped(labeled.app, task_states=lambda *asked: listed.append(asked) or iter(()))
    labeled.export(app=app, has_changed=True)

    assert len(listed) == 1


def test_clock_of_label_studio_that_is_set_back_hides_no_label(labeled):
    labeled.export()
    back = (datetime.now(timezone.utc) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    c = labeled.app.tasks[labeled.task_id("c.json")]
    labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = back
    app = Wrapped(labeled.app, now=lambda: back)
    written = [labeled.export(app=app).written for _ in range(2)]

    assert sum(written) == 1


@pytest.mark.parametrize("later", [timedelta(), timedelta(minutes=5)])
def test_label_is_found_however_long_after_the_clock_was_set_back(labeled, later):
    labeled.export()
    back = datetime.now(timezone.utc) - timedelta(hours=1)
    a, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "ac")
    labeled.app.annotate(c["id"], RESULT)
    labeled.app.edit(a["id"], [])
    a["updated_at"] = c["updated_at"] = moment(back)
    done = labeled.export(app=Wrapped(labeled.app, now=lambda: moment(back + later)))

    assert done.written == 2


def test_label_that_was_overlooked_is_found_with_the_next_one(labeled):
    labeled.export()
    b, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "bc")
    labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = moment(datetime.now(timezone.utc) - timedelta(hours=1))
    labeled.app.annotate(b["id"], RESULT)
    labeled.export()

    assert documents(labeled).keys() == {f"{labeled.task_id(f'{key}.json')}.json" for key in "abc"}


def test_overtaken_export_leaves_what_the_newer_one_wrote(labeled):
    number, deleted = labeled.task_id("a.json"), labeled.task_id("b.json")

    def sleep(*asked):
        if not slept:
            slept.append(asked)
            labeled.time.sleep(3600)  # its lease runs out
            labeled.app.edit(number, [])
            labeled.app.delete_task(deleted)
            labeled.export()
        return labeled.target.put(*asked)

    slept = []
    with pytest.raises(LeaseLostError):
        labeled.export(target=Wrapped(labeled.target, put=sleep))

    assert documents(labeled)[f"{number}.json"]["annotations"][0]["result"] == []
    assert documents(labeled).get(f"{deleted}.json", {"deleted": True})["deleted"]
    assert labeled.export().written == 0


def test_target_that_is_set_otherwise_during_an_export_is_looked_at_anew(labeled):
    a, b = (labeled.task_id(f"{key}.json") for key in "ab")
    labeled.set(target={"regex": rf"{a}\.json"})

    def widen(project_id):
        labeled.set(target={})
        return labeled.app.count_annotated(project_id)

    labeled.export(app=Wrapped(labeled.app, count_annotated=widen))
    labeled.export()

    assert set(documents(labeled)) == {f"{a}.json", f"{b}.json"}


def test_label_that_shows_up_late_as_another_goes_is_found_in_the_end(labeled, monkeypatch):
    a, b, c = (labeled.app.tasks[labeled.task_id(f"{key}.json")] for key in "abc")
    c["updated_at"] = "2020-01-01T00:00:00.000000Z"
    labeled.export()
    number = labeled.app.annotate(c["id"], RESULT)
    c["updated_at"] = a["updated_at"]  # it was begun before the export, and stored after it
    labeled.app.delete_task(a["id"])
    at_once = labeled.export()
    monkeypatch.setattr(export, "SAME_FOR", timedelta())
    later = labeled.export()

    assert b["updated_at"] > c["updated_at"]
    assert (at_once.written, later.written) == (0, 1)
    assert documents(labeled)[f"{c['id']}.json"]["annotations"][0]["id"] == number


def test_another_annotation_is_written_again(labeled):
    labeled.export()
    labeled.app.annotate(labeled.task_id("a.json"), RESULT)
    done = labeled.export()

    assert done.written == 1


def test_deleted_annotation_empties_the_document(labeled):
    labeled.export()
    number = labeled.task_id("a.json")
    labeled.app.delete_annotation(labeled.app.tasks[number]["annotations"][0]["id"])
    done = labeled.export()

    assert (done.emptied, documents(labeled)[f"{number}.json"]["annotations"]) == (1, [])


def test_deleted_task_becomes_a_tombstone_once(labeled):
    labeled.export()
    number = labeled.task_id("a.json")
    labeled.app.delete_task(number)
    done = labeled.export()
    again = labeled.export(target=Wrapped(labeled.target, put=None))

    assert (done.deleted, again.deleted) == (1, 0)
    assert documents(labeled)[f"{number}.json"] == {
        "id": number,
        "deleted": True,
        "annotations": [],
    }


def test_deletion_beside_a_new_label_is_not_overlooked(labeled):
    labeled.export()
    number = labeled.task_id("a.json")
    labeled.app.delete_task(number)
    labeled.app.annotate(labeled.task_id("c.json"), RESULT)
    done = labeled.export()

    assert (done.deleted, done.written) == (1, 1)


def test_task_that_was_never_exported_leaves_no_tombstone(labeled):
    labeled.export()
    number = labeled.task_id("c.json")
    labeled.app.delete_task(number)
    labeled.export()

    assert f"{number}.json" not in documents(labeled)


@pytest.mark.parametrize("what", ["task", "annotation"])
def test_with_delete_the_file_goes_with_the_task_or_its_last_annotation(labeled, what):
    labeled.set(target={"delete": True})
    labeled.export()
    number = labeled.task_id("a.json")
    if what == "task":
        labeled.app.delete_task(number)
    else:
        labeled.app.delete_annotation(labeled.app.tasks[number]["annotations"][0]["id"])
    labeled.export()
    labeled.export(target=Wrapped(labeled.target, put=None))

    assert set(documents(labeled)) == {f"{labeled.task_id('b.json')}.json"}


def test_deleted_project_fails_the_pass_and_touches_no_file(labeled):
    labeled.export()
    before = dict(labeled.target.objects)
    labeled.app.projects.clear()
    with pytest.raises(ProjectNotFoundError):
        labeled.export()

    assert labeled.target.objects == before


def test_new_target_prefix_writes_everything_there(labeled):
    labeled.export()
    labeled.set(target={"prefix": "v2"})
    done = labeled.export()

    number = labeled.task_id("a.json")
    assert (done.written, f"v2/{number}.json" in labeled.target.objects) == (2, True)


def test_target_regex_selects_what_is_written(labeled):
    number = labeled.task_id("a.json")
    labeled.set(target={"regex": rf"{number}\.json"})
    labeled.export()

    assert set(documents(labeled)) == {f"{number}.json"}


def test_failed_upload_is_not_counted_and_written_next_time(labeled):
    def fail(*_):
        raise BucketUnavailableError("s3://labels/1.json", "down")

    with pytest.raises(BucketUnavailableError):
        labeled.export(target=Wrapped(labeled.target, put=fail))
    done = labeled.export()

    assert done.written == 2


def test_tasks_that_another_connection_loaded_are_not_exported(labeled):
    task = labeled.app.tasks[labeled.task_id("a.json")]
    task["meta"]["ls_pipeline"]["connection"] = "other"
    labeled.export()

    assert set(documents(labeled)) == {f"{labeled.task_id('b.json')}.json"}


def test_task_made_by_hand_is_exported_too(labeled):
    (number,) = labeled.app.import_tasks(1, [{"data": {"text": "by hand"}}])
    labeled.app.annotate(number, RESULT)
    labeled.export()

    assert f"{number}.json" in documents(labeled)


def test_exported_document_can_be_loaded_again(labeled):
    labeled.export()
    number = labeled.task_id("a.json")
    labeled.put("again.json", labeled.target.objects[f"{number}.json"])
    labeled.load()
    again = labeled.app.tasks[labeled.task_id("again.json")]

    assert again["annotations"][0]["result"] == RESULT

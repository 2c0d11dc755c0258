"""Label configs of all kinds, and exports of Label Studio, as a run over a source meets them."""

from tests.bench import RESULT
from tests.domain.test_label_config import BOX, PAGES
from tests.engine.test_load import Wrapped


def show(bench, label_config):
    """Let the connection's project have a label config."""
    bench.app.projects[1] = ("Reviews", label_config)


def test_pages_of_a_repeater_load_with_their_predictions(bench):
    show(bench, PAGES)
    data = {"pages": [{"url": "s3://bucket/1.png"}]}
    bench.put("a.json", {"data": data, "predictions": [{"result": [BOX]}]})
    bench.put("b.json", {"data": {"pages": "s3://bucket/1.png"}})
    bench.load()

    assert (bench.tasks, set(bench.reasons)) == ({("a.json", 0): data}, {("b.json", 0)})


def test_blob_fills_the_list_that_the_label_config_shows(bench):
    show(bench, '<View><Image name="i" valueList="$images"/></View>')
    bench.set(use_blob_urls=True)
    bench.put("a.png", b"\x89PNG")
    bench.load()

    assert bench.tasks == {("a.png", 0): {"images": ["s3://bucket/a.png"]}}


def test_label_config_without_data_keys_takes_any_task(bench):
    show(bench, '<View><Text name="t" value="Is it a fox?"/></View>')
    bench.put("a.json", {"image": 7})
    result = bench.load()

    assert (result.tasks_created, result.notes) == (1, [])


# -- exports of another Label Studio ----------------------------------------------------------


def exported(**fields):
    return {"data": {"text": "a"}, "annotations": [{"id": 9, "result": RESULT}], **fields}


def by(*annotators):
    return exported(annotations=[{"result": RESULT, "completed_by": each} for each in annotators])


def test_export_with_prediction_ids_loads_with_its_annotations(bench):
    bench.put("a.json", [exported(predictions=[286]), exported(predictions=[287, 288])])
    bench.put("b.json", [exported(predictions=[])])
    result = bench.load()

    assert [len(task["annotations"]) for task in bench.app.tasks.values()] == [1, 1, 1]
    assert len(result.notes) == 1
    assert "s3://bucket/a.json has predictions (3) only as ids" in result.notes[0]


def test_annotations_of_unknown_people_load_and_are_told_once(bench):
    bench.put("a.json", [by(901), by({"email": "me@example.com"}, {"email": "o@example.com"})])
    result = bench.load()
    first, second = bench.app.tasks.values()

    assert [task["meta"]["annotators"] for task in (first, second)] == [
        [901],
        [None, {"email": "o@example.com"}],
    ]
    assert [each.get("completed_by") for each in second["annotations"]] == [1, None]
    assert len(result.notes) == 1
    assert "annotations (2) of people without a user in this Label Studio" in result.notes[0]


def test_users_are_asked_for_only_if_annotators_are_named(bench):
    bench.put("a.json", exported())
    bench.load(app=Wrapped(bench.app, users=None))

    assert len(bench.tasks) == 1

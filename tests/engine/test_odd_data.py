"""Tasks, annotations and files of strangers, of any form: everything else goes on."""

from __future__ import annotations

import json

import pytest

from ls_pipeline.domain.errors import IdentityError, TasksRefusedError
from ls_pipeline.domain.target_mark import LARGEST, mark_key
from ls_pipeline.resources.snapshots import Snapshots
from tests.bench import RESULT
from tests.engine.test_load import Wrapped

OURS = {"connection": "reviews", "uri": "s3://bucket/x.json", "version": "v", "row": 0}

METAS = [
    5,
    {"ls_pipeline": [1]},
    *(
        {"ls_pipeline": {**OURS, **odd}}
        for odd in (
            {"uri": 5},
            {"uri": "s3://bucket/\ud800"},
            {"version": 5},
            {"version": "\0"},
            {"row": 2**70},
            {"row": -1},
            {"import": {}},
        )
    ),
]

ANNOTATIONS = [
    7,
    {"id": 2**70, "result": RESULT},
    {"id": "5"},
    {"id": 901, "result": ["text", None, {"value": 5}, {"type": {}, "value": {"x": "12"}}]},
    {"id": 902, "result": {"no": "list"}, "completed_by": 2**70, "created_at": "yesterday"},
    {"id": 903, "lead_time": "10", "updated_at": "0001-01-01T00:00:00+14:00", "result": None},
]


def add_strangers(bench):
    """Add tasks that a person imported into the project, each with an annotation."""
    [project_id] = bench.app.projects
    task_ids = bench.app.import_tasks(
        project_id, [{"data": {"text": "x"}, "meta": m} for m in METAS]
    )
    for task_id in task_ids:
        bench.app.annotate(task_id, RESULT)
    odd = bench.app.import_tasks(project_id, [{"data": {"text": "x"}} for _ in ANNOTATIONS])
    for task_id, annotation in zip(odd, ANNOTATIONS, strict=True):
        bench.app.annotate(task_id, RESULT)
        bench.app.tasks[task_id]["annotations"].append(annotation)
    return [*task_ids, *odd]


@pytest.mark.parametrize("is_new", [False, True])
def test_tasks_of_any_form_stop_nothing(bench, tmp_path, is_new):
    bench.fill(["a", "b"], labeled=["a"])
    strangers = add_strangers(bench)
    if is_new:
        bench.replace_ledger(f"sqlite:///{tmp_path}/new.db")
        bench.rebind("take-over")
    bench.put("c.json", {"text": "c"})
    bench.load()
    bench.export()
    bench.snapshot()
    latest, _ = Snapshots(bench.target, "").latest()

    assert sorted(bench.connection_ledger.objects.few_rows_of(["a.json", "b.json", "c.json"]))
    files = {int(key.split(".")[0]) for key in bench.files if "/" not in key}
    assert files == {bench.task_id("a.json"), *strangers}
    assert Snapshots(bench.target, "").manifest(latest.snapshot).rows["tasks"] == len(files)


def test_annotation_without_an_id_is_in_the_file_as_it_is(bench):
    bench.fill(["a"], labeled=["a"])
    odd = {"id": 2**70, "result": RESULT, "more": 1}
    bench.app.tasks[bench.task_id("a.json")]["annotations"].append(odd)
    bench.export()
    document = json.loads(bench.files[f"{bench.task_id('a.json')}.json"])

    assert document["unreadable_annotations"] == [odd]
    assert len(document["annotations"]) == 1


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"{}", b'{"ledger": 5}', b"\xff" * LARGEST, b" " * (LARGEST + 1)]
)
def test_mark_of_any_form_stops_with_a_sentence(bench, body):
    bench.fill(["a"], labeled=["a"])
    bench.export()
    bench.target.objects[mark_key("")] = body

    with pytest.raises(IdentityError, match="is no mark of ls-pipeline"):
        bench.export()


@pytest.mark.parametrize("name", ["5.json", "007.json", "9" * 30 + ".json"])
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[]", b'{"annotations": 5, "meta": 5}'],
    ids=lambda body: str(body[:9]),
)
def test_files_of_others_in_an_emptied_target_are_left_alone(bench, name, body):
    bench.fill(["a"], labeled=["a"])
    bench.export()
    bench.target.objects.clear()
    bench.target.objects[name] = body
    bench.export()

    assert bench.files[name] == body
    assert f"{bench.task_id('a.json')}.json" in bench.files


def test_update_that_label_studio_refuses_goes_to_quarantine_alone(bench):
    def update_task(task_id, body):
        if task_id == refused:
            raise TasksRefusedError("Label Studio refused 1 tasks: it does not fit.", {})
        bench.app.update_task(task_id, body)

    for name in "abc":
        bench.put(f"{name}.json", {"text": name})
    bench.load()
    refused = bench.task_id("a.json")
    for name in "abc":
        bench.put(f"{name}.json", {"text": f"{name}2"})
    bench.load(app=Wrapped(bench.app, update_task=update_task))
    texts = {key: data["text"] for (key, _), data in bench.tasks.items()}

    assert texts == {"a.json": "a", "b.json": "b2", "c.json": "c2"}
    assert list(bench.reasons) == [("a.json", 0)]
    with bench.connection_ledger.acquire() as held:
        held.objects.release(["a.json"])
    bench.load()
    assert (bench.tasks["a.json", 0]["text"], bench.reasons) == ("a2", {})

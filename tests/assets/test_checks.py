import pytest

from ls_pipeline.assets.checks import (
    FORMATS_COMPLETE,
    annotations_counted,
    folder_checks,
    passed_snapshot_checks,
    snapshot_checks,
)
from ls_pipeline.assets.metadata import balance_metadata, label_chart
from ls_pipeline.domain.snapshot.folders import Folder
from ls_pipeline.domain.snapshot.manifest import Tally
from ls_pipeline.engine.target_files import find_missing_files
from ls_pipeline.settings.params import TargetParams
from tests.bench import RESULT

OTHER = [{**RESULT[0], "value": {"choices": ["B"]}}]


@pytest.fixture
def labeled(bench):
    """Return a bench with two labeled tasks: an A and a B."""
    for key, result in (("a", RESULT), ("b", OTHER)):
        bench.put(f"{key}.json", {"text": key})
        bench.load()
        bench.app.annotate(bench.task_id(f"{key}.json"), result)
    bench.export()
    return bench


def checked(done, **params):
    return {one.check_name: one for one in snapshot_checks("reviews", done, TargetParams(**params))}


def failed(done, **params):
    return {name for name, one in checked(done, **params).items() if not one.passed}


def test_sound_snapshot_passes_all(labeled):
    done = labeled.snapshot()

    assert failed(done) == set()
    names = {one.check_name for one in passed_snapshot_checks("reviews")}
    of_folders = {one.check_name for one in folder_checks("reviews", {})}
    assert names == {*checked(done), *of_folders, FORMATS_COMPLETE}


def test_rows_are_compared_with_ledger_and_label_studio(labeled):
    counted = checked(labeled.snapshot())["rows_as_exported"].metadata

    assert {name: value.value for name, value in counted.items()} == {
        "tasks": 2,
        "tasks_in_ledger": 2,
        "annotated_in_label_studio": 2,
        "annotations": 2,
        "annotations_in_ledger": 2,
    }


def test_failed_check_is_an_error(labeled):
    labeled.app.delete_task(labeled.task_id("a.json"))
    one = checked(labeled.snapshot())["rows_as_exported"]

    assert (one.passed, one.severity.value) == (False, "ERROR")


def test_equal_content_in_two_splits_is_a_warning(bench):
    bench.set(target={"test_share": 0.5, "validation_share": 0.0})
    for number in range(8):
        bench.put(f"{number}.json", {"text": "same"})
    bench.load()
    for number in range(8):
        bench.app.annotate(bench.task_id(f"{number}.json"), RESULT)
    bench.export()
    one = checked(bench.snapshot())["no_content_leak"]

    assert (one.passed, one.severity.value) == (False, "WARN")
    assert "8 tasks show the same as a task of another split (1 different contents)" in (
        one.description
    )
    assert (one.metadata["contents"].value, one.metadata["tasks"].value) == (1, 8)
    (example,) = one.metadata["examples"].records
    assert set(example.data) == {"train", "validation", "test"}


def test_folder_without_all_pictures_or_with_copies_is_a_warning():
    whole = Folder(snapshot="00000001-0123456789ab", format="YOLO", pictures={"train": 2})
    partly = whole.model_copy(
        update={
            "missing": 3,
            "missing_example": "s3://b/1.jpg: it is gone.",
            "leaks": 2,
            "leak_example": ["images/train/1-a.jpg", "images/test/2-b.jpg"],
        }
    )
    complete, alone = folder_checks("reviews", {"YOLO": whole, "COCO": "It does not fit."})
    missing, leaking = folder_checks("reviews", {"YOLO": partly})

    assert (complete.passed, alone.passed) == (True, True)
    assert (missing.passed, missing.severity.value) == (False, "WARN")
    assert "3 pictures are missing, and their tasks are left out" in missing.description
    assert missing.metadata["missing"].value == 3
    assert "2 pictures have the same bytes as one of another split" in leaking.description
    assert leaking.metadata["pictures"].value == 2


def test_class_that_vanished_is_a_warning(labeled):
    labeled.snapshot()
    labeled.app.delete_task(labeled.task_id("b.json"))
    labeled.export()
    one = checked(labeled.snapshot())["no_class_vanished"]

    assert (one.passed, one.severity.value) == (False, "WARN")
    assert one.description == "reviews: No result has these labels any more: `B (c)`."


def test_many_skipped_tasks_are_a_warning(labeled):
    number = labeled.task_id("a.json")
    labeled.app.annotate(number, [])
    labeled.app.tasks[number]["annotations"][-1]["was_cancelled"] = True
    labeled.export()
    done = labeled.snapshot()

    assert failed(done) == {"few_skipped"}
    assert failed(done, skipped_at_most=0.5) == set()


def test_annotators_who_disagree_are_a_warning(labeled):
    labeled.app.annotate(labeled.task_id("a.json"), OTHER)
    labeled.export()
    done = labeled.snapshot()

    assert failed(done) == {"annotators_agree"}
    assert failed(done, agreement_at_least=0.0) == set()


def test_chart_is_a_picture_and_names_what_it_leaves_out():
    few = Tally(labels={"c": {"A": {"train": 3}, "$B": {"test": 1}}})
    many = Tally(labels={"c": {str(number): {"train": number} for number in range(30)}})

    assert label_chart(few).value.startswith("![labels by split](data:image/svg+xml;base64,")
    assert label_chart(many).value.endswith("10 rarer labels are left out.")
    assert label_chart(Tally()).value == "No labels yet."


def test_balance_is_a_share_of_each_split():
    tally = Tally(labels={"c": {"A": {"train": 3, "test": 1}, "B|": {"train": 1}}})

    assert [record.data for record in balance_metadata(tally)["class_balance"].records] == [
        {"label": "c: A", "train": "75%", "validation": "-", "test": "100%"},
        {"label": "c: B|", "train": "25%", "validation": "-", "test": "0%"},
    ]


def test_labels_that_label_studio_lost_count_of_are_a_warning():
    well, lost = annotations_counted("reviews", []), annotations_counted("reviews", [7, 9])

    assert (well.passed, lost.passed, lost.severity.value) == (True, False, "WARN")
    assert "2 annotated tasks, the first is task 7" in lost.description


def test_file_that_somebody_deleted_is_a_warning_and_is_written_again(labeled):
    number = labeled.task_id("a.json")
    labeled.target.delete(f"{number}.json")
    with labeled.run(labeled.target) as run:
        missing = find_missing_files(run)
    one = {
        one.check_name: one
        for one in snapshot_checks("reviews", labeled.snapshot(), run.target.params, missing)
    }["target_complete"]
    labeled.export()

    assert missing == [f"s3://labels/{number}.json"]
    assert (one.passed, one.severity.value) == (False, "WARN")
    assert f"{number}.json" in labeled.target.objects


def test_files_that_are_there_are_all_found(labeled):
    for key in ("training_data/1.json", "0x.json", "9/1.json"):
        labeled.target.put(key, b"", "application/json")
    with labeled.run(labeled.target) as run:
        assert find_missing_files(run) == []

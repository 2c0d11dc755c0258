"""Rows of a replaced object keep their numbers, tasks and labels wherever they move."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.errors import LabelStudioUnavailableError
from tests.bench import RESULT, Bench
from tests.engine.test_load import Wrapped
from tests.machine.running import LedgerFile


@pytest.fixture
def bench(tmp_path):
    bench = Bench(f"sqlite:///{tmp_path}/ledger.db")
    bench.set(on_delete="delete")
    yield bench
    bench.ledger.close()


def put(bench, *texts, key="a.json"):
    bench.put(key, [{"text": text} for text in texts])
    return bench.load()


def texts(bench):
    """Return row number → text."""
    return {row: data["text"] for (_, row), data in bench.tasks.items()}


def load_without_an_answer(bench):
    """Load, and have the import's request lost."""

    def lost(*_):
        raise LabelStudioUnavailableError("no answer")

    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Wrapped(bench.app, import_tasks=lost))


def label(bench, *wanted):
    for task_id, task in bench.app.tasks.items():
        if task["data"]["text"] in wanted:
            bench.app.annotate(task_id, RESULT)


def test_rows_that_move_keep_their_tasks_and_labels(bench):
    put(bench, *"abcd")
    label(bench, "b", "d")
    done = put(bench, *"xdbya")

    assert texts(bench) == {0: "a", 1: "b", 3: "d", 4: "x", 5: "y"}
    assert (done.tasks_created, done.tasks_updated, done.tasks_deleted) == (2, 0, 1)
    labeled = {task["data"]["text"] for task in bench.app.tasks.values() if task["annotations"]}
    assert labeled == {"b", "d"}


def test_inserted_row_takes_nothing_from_others(bench):
    put(bench, *"ab")
    label(bench, "a", "b")
    put(bench, *"xab")

    assert texts(bench) == {0: "a", 1: "b", 2: "x"}


def test_number_of_a_deleted_row_is_not_used_again(bench):
    put(bench, *"abc")
    put(bench, *"ab")
    put(bench, *"abd")

    assert texts(bench) == {0: "a", 1: "b", 3: "d"}


def test_edited_row_is_known_by_its_position(bench):
    put(bench, *"abc")
    done = put(bench, "a", "B", "c")

    assert texts(bench) == {0: "a", 1: "B", 2: "c"}
    assert (done.tasks_created, done.tasks_updated, done.tasks_deleted) == (0, 1, 0)


def test_row_that_is_kept_and_comes_back_has_its_task(bench):
    bench.set(on_delete="keep")
    put(bench, *"abc")
    ids = {task["data"]["text"]: number for number, task in bench.app.tasks.items()}
    put(bench, *"ac")
    put(bench, *"aXc")
    assert texts(bench) == {0: "a", 1: "b", 2: "c", 3: "X"}
    put(bench, *"bacX")
    assert {task["data"]["text"]: number for number, task in bench.app.tasks.items()} == {
        **ids,
        "X": max(bench.app.tasks),
    }


def test_row_key_finds_a_row_that_was_moved_and_edited(bench):
    bench.set(on_delete="delete", row_key="id")
    rows = [{"id": n, "text": text} for n, text in enumerate("abc")]
    bench.put("a.json", rows)
    bench.load()
    ids = sorted(bench.app.tasks)
    bench.put("a.json", [{"id": 2, "text": "C"}, {"id": 7, "text": "x"}, rows[0]])
    bench.load()

    tasks = bench.app.tasks
    assert [tasks[ids[0]]["data"], tasks[ids[2]]["data"]] == [rows[0], {"id": 2, "text": "C"}]
    assert texts(bench) == {0: "a", 2: "C", 3: "x"}


def test_row_without_its_key_or_with_another_rows_is_rejected(bench):
    bench.set(row_key="id")
    rows = [{"id": 1, "text": "a"}, {"text": "b"}, {"id": 1, "text": "c"}, {"id": "1", "text": "d"}]
    bench.put("a.json", rows)
    bench.load()

    assert texts(bench) == {0: "a", 3: "d"}
    assert bench.reasons == {
        ("a.json", 1): "The row lacks 'id', which is the row_key.",
        ("a.json", 2): "An earlier row has the same 'id', the row_key: '1'.",
    }


def test_broken_row_keeps_its_task(bench):
    put(bench, *"abc")
    bench.put("a.json", [{"text": "c"}, {"wrong": "b"}, {"text": "a"}])
    done = bench.load()
    assert (texts(bench), done.tasks_deleted) == ({0: "a", 1: "b", 2: "c"}, 0)
    put(bench, *"cBa")
    assert texts(bench) == {0: "a", 1: "B", 2: "c"}


def lose_ledger(bench, folder):
    for mark in bench.app.marks():
        bench.app.remove_mark(mark)
    bench.replace_ledger(f"sqlite:///{folder}/new.db")
    bench.set(on_delete="delete")


def test_recovered_row_that_is_taken_for_another_is_updated(bench, tmp_path):
    put(bench, *"xz")
    label(bench, "z")
    put(bench, *"xy")  # z stays, because it is labeled
    put(bench, *"zxy")
    assert texts(bench) == {0: "x", 1: "z", 2: "z"}
    lose_ledger(bench, tmp_path)
    bench.load()

    assert texts(bench) == {0: "x", 1: "z", 2: "y"}


def test_recovered_ledger_knows_moved_rows_by_their_data(bench, tmp_path):
    put(bench, *"abcd")
    put(bench, *"xdbya")
    label(bench, "d")
    before = {number: task["data"] for number, task in bench.app.tasks.items()}
    lose_ledger(bench, tmp_path)
    done = bench.load()

    assert (done.tasks_created, done.tasks_deleted) == (0, 0)
    assert {number: task["data"] for number, task in bench.app.tasks.items()} == before
    assert bench.load().tasks_updated == 0


def test_import_without_an_answer_keeps_its_rows_numbers(bench):
    bench.put("a.json", [{"text": text} for text in "ab"])
    load_without_an_answer(bench)
    put(bench, *"xab")

    assert texts(bench) == {0: "a", 1: "b", 2: "x"}


def test_number_of_a_row_that_an_import_may_still_make_is_not_given_again(bench):
    bench.put("a.json", [{"text": text} for text in "abc"])
    load_without_an_answer(bench)
    bench.bucket.delete("a.json")
    bench.load()
    put(bench, *"cxc")

    assert texts(bench) == {1: "x", 2: "c", 3: "c"}


def test_many_known_rows_are_found_in_pages(bench, monkeypatch):
    monkeypatch.setattr("ls_pipeline.resources.ledger.objects.FEW_ROWS", 2)
    monkeypatch.setattr("ls_pipeline.engine.row_numbers.PAGE", 2)
    put(bench, *"abcdefg")
    before = {task["data"]["text"]: number for number, task in bench.app.tasks.items()}
    put(bench, *"gXfedcba")

    after = {task["data"]["text"]: number for number, task in bench.app.tasks.items()}
    assert {text: after[text] for text in before} == before
    assert len(after) == 8


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory):
    file = LedgerFile(tmp_path_factory.mktemp("ledger"))
    yield file
    file.ledger.close()


FILES = st.lists(st.text("abcdef", min_size=1, max_size=1), min_size=1, max_size=7)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.lists(FILES, min_size=2, max_size=4), st.data())
def test_file_that_is_made_anew_has_a_task_for_each_row_and_loses_no_label(
    ledger_file, versions, data
):
    ledger_file.empty()
    bench = Bench(ledger_file.ledger)
    bench.set(on_delete="delete")
    make_anew(bench, versions, data)


def make_anew(bench, versions, data):
    labeled = {}
    for version in versions:
        put(bench, *version)
        tasks = bench.app.tasks
        assert {number: tasks[number]["data"]["text"] for number in labeled} == labeled
        free = Counter(task["data"]["text"] for n, task in tasks.items() if n not in labeled)
        # A labeled row that was edited keeps its old text; all others are as in the file.
        assert free <= Counter(version)
        assert (Counter(version) - free).total() <= len(labeled)
        for number, task in tasks.items():
            if number not in labeled and data.draw(st.integers(0, 3)) == 0:
                bench.app.annotate(number, RESULT)
                labeled[number] = task["data"]["text"]

"""Objects that cannot become tasks: each gets its reason, and the others are loaded."""

import gzip
import json

import pytest

from ls_pipeline.assets.checks import accounts_balance, nothing_quarantined
from ls_pipeline.domain.diff import Change, State
from ls_pipeline.domain.errors import ObjectChangedError, TasksRefusedError
from ls_pipeline.domain.formats import choice
from ls_pipeline.domain.notes import LONGEST_REASON
from ls_pipeline.engine.import_queue import REJECTIONS_KEPT
from ls_pipeline.resources.ledger.records import LedgerUpdate
from tests.bench import RESULT
from tests.engine.test_load import Wrapped

WRONG_RESULT = [{**RESULT[0], "value": {"choices": ["none of these"]}}]
LINES = [json.dumps({"text": str(n)}) for n in range(10_000)]

BAD = {
    "not-json.json": (b"{", None, "Not JSON: Expecting property name"),
    "latin-1.json": ('{"text": "Köln"}'.encode("latin-1"), None, "not UTF-8: byte 11"),
    "utf-16.json": ('{"text": "a"}'.encode("utf-16"), None, "The object is UTF-16"),
    "string.json": (b'"text"', 0, "A task is a JSON object, not a string."),
    "wrong-key.json": (b'{"txt": "a"}', 0, "The label config shows 'text', which the task lacks"),
    "big.json": (b'{"text": "a", "n": 18446744073709551617}', None, "has more than 64 bits"),
    "twice.json": (b'{"text": "a", "text": "b"}', None, "The key 'text' appears twice"),
    "deep.json": (b'{"text": ' + b"[" * 1000 + b"]" * 1000 + b"}", None, "nested"),
    "nan.json": (b'{"text": NaN}', None, "NaN is not JSON."),
    "half.json": (b'{"text": "\\ud800"}', None, "half of a surrogate pair"),
    "empty.json": (b"", None, "The object is empty."),
    "gzip.json": (gzip.compress(b'{"text": "a"}')[:-9], None, "The gzip data can't be read"),
    "bomb.json.gz": (gzip.compress(b" " * 5000), None, "over 4,000 bytes when it is decompressed"),
    "picture.png": (b"\x89PNG\r\n", None, "set use_blob_urls if it is to be shown by its URL"),
    "notes.txt": (b"a text", None, "Set the param format if it is text"),
    "huge.json": (b"x" * 5000, None, "The object has 5,000 bytes; at most 4,000 are read."),
}


@pytest.fixture
def full(bench, monkeypatch):
    """Return a bench that loaded a bucket of all bad objects, with a good object after each."""
    for key, (body, _, _) in BAD.items():
        bench.put(key, body)
        bench.put(f"{key}.good.json", {"text": key})
    keys_read = []

    def get(key, version=""):
        keys_read.append(key)
        return bench.bucket.get(key, version)

    monkeypatch.setattr(choice, "LARGEST_OBJECT", 4000)
    bench.result = bench.load(bucket=Wrapped(bench.bucket, get=get))
    bench.keys_read = keys_read
    return bench


@pytest.mark.parametrize("key", BAD)
def test_each_bad_object_has_its_reason(full, key):
    _, row, reason = BAD[key]

    assert reason in full.reasons[key, row]


def test_good_objects_are_loaded_and_the_accounts_balance(full):
    check = accounts_balance(full.connection_ledger, "", full.result)

    assert sorted(key for key, _ in full.tasks) == sorted(f"{key}.good.json" for key in BAD)
    assert check.passed, check.description


def test_quarantine_warning_names_the_first_object_and_command(full):
    check = nothing_quarantined(full.connection_ledger)

    assert (check.passed, check.severity.value) == (False, "WARN")
    assert check.metadata["quarantined"].value == len(BAD)
    assert check.description.startswith(f"{full.connection_ledger.name}: {len(BAD)} in quarantine")
    assert f"`{min(BAD)}`: " in check.description
    assert f"ls-pipeline quarantine list {full.connection_ledger.name}" in check.description


def test_empty_quarantine_passes_the_check(bench):
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert nothing_quarantined(bench.connection_ledger).passed


def test_object_over_the_size_limit_is_not_read(full):
    assert "huge.json" not in full.keys_read


def test_new_version_releases_each_bad_object(full):
    for key in BAD:
        full.put(key, {"text": key})
    full.load()

    assert (full.reasons, len(full.tasks)) == ({}, 2 * len(BAD))


@pytest.mark.slow
def test_one_bad_line_is_named_and_the_others_load(bench):
    bench.put("a.jsonl", "\n".join([*LINES[:7000], "{oops", *LINES[7001:]]).encode())
    result = bench.load()

    assert list(bench.reasons) == [("a.jsonl", 7000)]
    assert (result.tasks_created, bench.connection_ledger.objects.count_tasks()) == (9999, 9999)


def test_one_bad_prediction_is_named_and_the_others_load(bench):
    def task(result):
        return {"data": {"text": "a"}, "predictions": [{"result": result}]}

    bench.put("a.json", [task(RESULT), task(WRONG_RESULT), task(RESULT)])
    bench.load()

    assert list(bench.reasons) == [("a.json", 1)]
    assert list(bench.tasks) == [("a.json", 0), ("a.json", 2)]


# -- accounts_balance -------------------------------------------------------------------------


def test_accounts_balance_with_filters_replacements_and_removals(bench):
    bench.set(prefix="in", regex=r"in/[ab]")
    for key in ("in/a.json", "in/b.json", "in/c.json", "out/a.json", "in/", "in/a-bad.json"):
        bench.put(key, b"bad" if "bad" in key else {"text": key})
    checks = [accounts_balance(bench.connection_ledger, "in/", bench.load())]
    bench.put("in/a.json", {"text": "new"})
    bench.bucket.delete("in/b.json")
    checks.append(accounts_balance(bench.connection_ledger, "in/", bench.load()))
    bench.set(prefix="in", regex="in/c")
    bench.put("in/a.json", {"text": "newer"})
    checks.append(accounts_balance(bench.connection_ledger, "in/", bench.load()))

    assert [check.passed for check in checks] == [True] * 3
    assert checks[0].metadata["listed"].value == 5
    assert checks[0].metadata["filtered"].value == 2


def test_object_that_changes_while_read_is_pending(bench):
    bench.put("a.json", {"text": "a"})

    def changed(key, version=""):
        raise ObjectChangedError("s3://bucket/a.json")

    result = bench.load(bucket=Wrapped(bench.bucket, get=changed))
    check = accounts_balance(bench.connection_ledger, "", result)

    assert (check.passed, check.metadata["pending"].value) == (True, 1)


def test_accounts_that_do_not_balance_fail_the_check(bench):
    for key in ("a.json", "b.json"):
        bench.put(key, {"text": key})
    result = bench.load()
    with bench.connection_ledger.acquire() as held:
        held.intents.record(LedgerUpdate(forgotten=["a.json"]))
    check = accounts_balance(bench.connection_ledger, "", result)

    assert not check.passed
    assert check.description.startswith("reviews: The ledger has 1 too few")
    assert bench.connection_ledger.objects.count()[State.LOADED] == 1


# -- objects with many bad rows, or none that can be found --------------------------------------

NUMBERS = b"[" + b"1," * 249 + b"1]"


def test_first_rejected_rows_are_listed_and_all_are_counted(bench):
    bench.put("a.json", {"text": "a"})
    bench.put("b.json", NUMBERS)
    bench.load()

    *listed, more = bench.connection_ledger.objects.quarantined()
    assert [item.row for item in listed] == list(range(REJECTIONS_KEPT))
    assert (more.row, more.more, more.reason) == (None, 150, "… and 150 more rows of this object.")
    assert bench.connection_ledger.objects.count_quarantined() == 250
    assert set(bench.tasks) == {("a.json", 0)}


def test_rows_that_label_studio_refuses_count_too(bench):
    def refuse(project_id, tasks):
        raise TasksRefusedError("refused", dict.fromkeys(range(len(tasks)), "x" * 10_000))

    bench.put("a.json", [{"text": str(n)} if n % 2 else 1 for n in range(500)])
    bench.load(app=Wrapped(bench.app, import_tasks=refuse))

    quarantined = bench.connection_ledger.objects.quarantined()
    assert len(quarantined) == REJECTIONS_KEPT + 1
    assert max(len(item.reason) for item in quarantined) <= LONGEST_REASON
    assert bench.connection_ledger.objects.count_quarantined() == 500


def test_rejected_row_that_is_not_listed_keeps_its_task(bench):
    bench.put("a.json", [{"text": str(n)} for n in range(250)])
    bench.load()
    bench.put("a.json", NUMBERS)
    result = bench.load()

    assert (result.tasks_deleted, len(bench.tasks)) == (0, 250)


def test_object_with_many_rejected_rows_is_retried(bench):
    bench.put("a.json", NUMBERS)
    bench.load()
    with bench.connection_ledger.acquire() as held:
        held.objects.release(["a.json"])
    result = bench.load()

    assert result.changes[Change.REPLACED] == 1
    assert bench.connection_ledger.objects.count_quarantined() == 250


def test_corrected_object_leaves_quarantine(bench):
    bench.put("a.json", NUMBERS)
    bench.load()
    bench.put("a.json", {"text": "a"})
    bench.load()

    assert bench.connection_ledger.objects.count_quarantined() == 0


def test_list_that_breaks_off_becomes_tasks_up_to_there(bench):
    bench.put("a.json", b'[{"text": "0"}, {"text": "1"}, {"text"')
    bench.load()

    assert set(bench.tasks) == {("a.json", 0), ("a.json", 1)}
    assert "(line 1, column 39). The list was read up to row 1." in bench.reasons["a.json", None]
    assert bench.connection_ledger.objects.count()[State.LOADED] == 1


def test_list_that_breaks_off_keeps_the_tasks_of_later_rows(bench):
    bench.put("a.json", [{"text": "0"}, {"text": "1"}, {"text": "2"}])
    bench.load()
    bench.put("a.json", b'[{"text": "new"}, {"text": "0"}, {"text"')
    bench.load()

    # It is unknown whether "new" is another row or a known one: the rest may tell.
    assert [data["text"] for data in bench.tasks.values()] == ["0", "1", "2"]
    bench.put("a.json", [{"text": "new"}, {"text": "0"}, {"text": "1"}, {"text": "2"}])
    bench.load()
    assert [data["text"] for data in bench.tasks.values()] == ["0", "1", "2", "new"]


def test_list_that_breaks_off_and_is_corrected_duplicates_nothing(bench):
    bench.put("a.json", b'[{"text": "0"}, {"text"')
    bench.load()
    bench.put("a.json", [{"text": "0"}, {"text": "1"}])
    bench.load()

    assert (len(bench.tasks), bench.reasons) == (2, {})


def test_list_that_breaks_off_and_is_removed_leaves_no_task(bench):
    bench.set(on_delete="delete")
    bench.put("a.json", b'[{"text": "0"}, {"text"')
    bench.load()
    bench.bucket.delete("a.json")
    bench.load()

    assert (bench.tasks, bench.reasons) == ({}, {})

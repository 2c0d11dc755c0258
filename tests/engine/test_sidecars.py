"""An object and its sidecar make one task, whichever comes first."""

import itertools
import json

import pytest

from ls_pipeline.domain.errors import InvalidConnectionError
from ls_pipeline.settings.validation import build_connection
from tests.bench import RESULT, Bench
from tests.engine.test_changed_world import KillerAfterEffects
from tests.engine.test_crashes import Killed
from tests.engine.test_label_configs import show
from tests.engine.test_load import Wrapped
from tests.engine.test_predictions import prediction

CAPTIONED = """<View><Image name="i" value="$image"/><Text name="t" value="$text"/>
<Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>"""

# Some come before their sidecar in the listing, and one after it.
PICTURES = ["cat.jpg", "cat.png", "a.b/cat"]


@pytest.fixture
def bench(empty_ledger):
    return sidecar_bench(empty_ledger)


def sidecar_bench(ledger, name="reviews"):
    bench = Bench(ledger, name)
    bench.set(use_blob_urls=True, sidecar_suffix=".json", on_delete="delete")
    show(bench, CAPTIONED)
    return bench


def picture(bench, key="cat.jpg", body=b"\xff\xd8"):
    bench.put(key, body)


def sidecar(bench, text="a cat", key="cat.json", **form):
    bench.put(key, {"data": {"text": text}, **form} if form else {"text": text})


def texts(bench):
    return {place: data.get("text") for place, data in bench.tasks.items()}


def settle(bench):
    """Look again: nothing is left to do."""
    before = repr(bench.app.tasks)
    done = bench.load()
    assert (done.tasks_created, done.tasks_updated, done.tasks_deleted) == (0, 0, 0)
    assert not {*done.changes} - {"unchanged", "filtered"}, done.changes
    assert repr(bench.app.tasks) == before


@pytest.mark.parametrize("key", PICTURES)
def test_picture_and_sidecar_make_one_task(bench, key):
    picture(bench, key)
    sidecar(bench, key=key.removesuffix(".jpg").removesuffix(".png") + ".json")
    done = bench.load()

    assert bench.tasks == {(key, 0): {"image": f"s3://bucket/{key}", "text": "a cat"}}
    assert (done.tasks_created, bench.reasons, list(done.notes)) == (1, {}, [])
    settle(bench)


def test_sidecar_that_comes_first_waits_for_its_picture(bench):
    sidecar(bench)
    done = bench.load()

    assert bench.tasks == {}
    assert "s3://bucket/cat.json" in " ".join(done.notes)
    picture(bench)
    bench.load()
    assert texts(bench) == {("cat.jpg", 0): "a cat"}
    settle(bench)


def test_picture_that_comes_first_waits_for_what_its_label_config_shows(bench):
    picture(bench)
    bench.load()

    assert list(bench.tasks) == []
    assert "s3://bucket/cat.json" in bench.reasons["cat.jpg", 0]
    sidecar(bench)
    bench.load()
    assert texts(bench) == {("cat.jpg", 0): "a cat"}
    assert bench.reasons == {}
    settle(bench)


def test_picture_whose_sidecar_may_be_missing_is_loaded_before_it(empty_ledger):
    bench = sidecar_bench(empty_ledger)
    show(bench, '<View><Image name="i" value="$image"/></View>')
    picture(bench)
    bench.load()
    assert texts(bench) == {("cat.jpg", 0): None}

    sidecar(bench)
    done = bench.load()
    assert (done.tasks_created, done.tasks_updated, texts(bench)) == (
        0,
        1,
        {("cat.jpg", 0): "a cat"},
    )
    del bench.bucket.objects["cat.json"]
    done = bench.load()
    assert texts(bench) == {("cat.jpg", 0): None}
    assert (done.tasks_created, done.tasks_updated) == (0, 1)
    settle(bench)


@pytest.mark.parametrize("key", ["cat.jpg", "cat.png"])
def test_changed_sidecar_changes_the_task(bench, key):
    picture(bench, key)
    sidecar(bench)
    bench.load()
    before = bench.task_id(key)
    sidecar(bench, "two cats")
    done = bench.load()

    assert (done.tasks_created, done.tasks_updated) == (0, 1)
    assert (texts(bench), bench.task_id(key)) == ({(key, 0): "two cats"}, before)
    settle(bench)


def test_changed_picture_keeps_its_task_and_its_sidecar(bench):
    picture(bench)
    sidecar(bench)
    bench.load()
    picture(bench, body=b"another")
    sidecar(bench, "another cat")
    done = bench.load()

    assert texts(bench) == {("cat.jpg", 0): "another cat"}
    assert (done.tasks_created, done.tasks_updated) == (0, 1)
    settle(bench)


def test_removed_picture_removes_the_task(bench):
    picture(bench)
    sidecar(bench)
    bench.load()
    del bench.bucket.objects["cat.jpg"]
    done = bench.load()

    assert (done.tasks_deleted, bench.tasks) == (1, {})
    picture(bench)
    bench.load()
    assert texts(bench) == {("cat.jpg", 0): "a cat"}
    settle(bench)


def test_labeled_task_stays_when_its_sidecar_changes(bench):
    picture(bench)
    sidecar(bench)
    bench.load()
    bench.app.annotate(1, RESULT)
    sidecar(bench, "two cats")
    done = bench.load()

    assert texts(bench) == {("cat.jpg", 0): "a cat"}
    assert (done.tasks_kept, done.tasks_created) == (1, 0)
    settle(bench)


def test_predictions_of_a_sidecar_are_those_of_the_task(bench):
    picture(bench)
    sidecar(bench, predictions=[prediction("m1")])
    bench.load()
    sidecar(bench, predictions=[prediction("m2")])
    bench.load()

    assert [each["model_version"] for each in bench.app.tasks[1]["predictions"]] == ["m2"]
    settle(bench)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'[{"text": "a"}]', b'"a"', b"\xff", b"{}"])
def test_sidecar_that_cannot_be_read_is_named_and_its_picture_tried_again(bench, body):
    picture(bench)
    bench.put("cat.json", body)
    picture(bench, "dog.jpg")
    sidecar(bench, "a dog", "dog.json")
    bench.load()

    assert texts(bench) == {("dog.jpg", 0): "a dog"}
    assert "s3://bucket/cat.json" in next(iter(bench.reasons.values()))
    settle(bench)
    sidecar(bench)
    bench.load()
    assert texts(bench) == {("dog.jpg", 0): "a dog", ("cat.jpg", 0): "a cat"}
    assert bench.reasons == {}


def test_sidecar_that_is_too_large_is_not_read(bench):
    picture(bench)
    bench.put("cat.json", b" " * (1024**2 + 1))
    reads = []
    bench.load(Wrapped(bench.bucket, get=lambda *args: reads.append(args)))

    assert "1,048,577 bytes" in bench.reasons["cat.jpg", None]
    assert reads == []


def test_pictures_of_one_name_share_their_sidecar(bench):
    picture(bench, "cat.jpg")
    picture(bench, "cat.png")
    sidecar(bench)
    bench.load()
    sidecar(bench, "two cats")
    done = bench.load()

    assert texts(bench) == {("cat.jpg", 0): "two cats", ("cat.png", 0): "two cats"}
    assert done.tasks_updated == 2


def test_regex_selects_pictures_and_their_sidecars_count_anyway(bench):
    bench.set(use_blob_urls=True, sidecar_suffix=".json", regex=r".*\.jpg$")
    picture(bench)
    picture(bench, "cat.png")
    sidecar(bench)
    bench.load()
    sidecar(bench, "two cats")
    bench.load()

    assert texts(bench) == {("cat.jpg", 0): "two cats"}


def test_texts_have_sidecars_too(empty_ledger):
    bench = Bench(empty_ledger)
    bench.set(format="text", sidecar_suffix="_meta.json")
    bench.put("a.txt", b"hello")
    bench.put("a_meta.json", {"author": "Ann"})
    bench.load()

    assert bench.tasks == {("a.txt", 0): {"text": "hello", "author": "Ann"}}
    settle(bench)


def test_sidecar_needs_objects_that_are_one_task_each(bench):
    with pytest.raises(InvalidConnectionError, match="sidecar_suffix"):
        bench.set(sidecar_suffix=".json")


@pytest.mark.parametrize("was", ["", ".xml"])
def test_suffix_that_is_set_later_reaches_what_is_loaded(bench, was):
    show(bench, '<View><Image name="i" value="$image"/></View>')
    bench.set(use_blob_urls=True, on_delete="delete", sidecar_suffix=was)
    picture(bench)
    sidecar(bench)
    bench.load()
    assert set(bench.tasks) == {("cat.jpg", 0), ("cat.json", 0)}

    bench.set(use_blob_urls=True, on_delete="delete", sidecar_suffix=".json")
    bench.load()
    assert texts(bench) == {("cat.jpg", 0): "a cat"}
    settle(bench)


# -- faults -----------------------------------------------------------------------------------


CHANGES = {
    "first": lambda bench: (picture(bench), picture(bench, "cat.png"), sidecar(bench)),
    "sidecar": lambda bench: sidecar(bench, "two cats"),
    "both": lambda bench: (picture(bench, body=b"new"), sidecar(bench, "two cats")),
    "put back": lambda bench: (sidecar(bench, "two cats"), bench.load(), sidecar(bench)),
    "gone": lambda bench: bench.bucket.objects.pop("cat.json"),
    "picture gone": lambda bench: bench.bucket.objects.pop("cat.jpg"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_run_killed_anywhere_leaves_no_old_text(change, empty_ledger):
    for at in itertools.count(1):
        bench = sidecar_bench(empty_ledger, f"killed-{at}")
        if change != "first":
            CHANGES["first"](bench)
            bench.load()
        CHANGES[change](bench)
        killer = KillerAfterEffects(at)
        try:
            bench.load(killer.wrap(bench.bucket), app=killer.wrap(bench.app), wrap=killer.wrap)
        except Killed:
            bench.load()
            check(bench)
        else:
            return


@pytest.mark.parametrize("moment", ["get", "pages", "import_tasks", "update_task"])
@pytest.mark.parametrize("what", ["sidecar", "gone", "both"])
def test_sidecar_that_changes_during_a_run_is_seen_by_the_next(bench, moment, what):
    CHANGES["first"](bench)
    bench.load()
    CHANGES["both"](bench)
    picture(bench, "dog.jpg")
    sidecar(bench, "a dog", "dog.json")
    for at in range(1, 12):
        part = bench.bucket if moment in {"get", "pages"} else bench.app
        calls, inner = itertools.count(1), getattr(part, moment)

        def change(*args, calls=calls, at=at, inner=inner):
            if next(calls) == at:
                CHANGES[what](bench)
            return inner(*args)

        part = bench.bucket if moment in {"get", "pages"} else bench.app
        wrapped = Wrapped(part, **{moment: change})
        bench.load(
            *([wrapped] if part is bench.bucket else []), app=wrapped if part is bench.app else None
        )
        bench.load()
        bench.load()
        check(bench)
        CHANGES["both"](bench)
        sidecar(bench, f"{at} cats")


def check(bench):
    """The tasks are what the bucket holds."""
    body = bench.bucket.objects.get("cat.json")
    text = json.loads(body)["text"] if body else None
    for key in ("cat.jpg", "cat.png"):
        exists = key in bench.bucket.objects and text is not None
        if exists:
            assert texts(bench)[key, 0] == text
        elif key not in bench.bucket.objects:
            assert (key, 0) not in texts(bench)
        else:
            assert (key, 0) in bench.reasons
    settle(bench)


@pytest.mark.parametrize("params", [{"sidecar_suffix": ".json"}, {"manifest": "m.txt"}])
def test_label_config_may_show_what_is_beside_the_object(params):
    source = {"type": "s3", "path": "bucket", "params": {"use_blob_urls": True, **params}}

    assert build_connection("a", source=source, target=None, project="Cats", label_config=CAPTIONED)

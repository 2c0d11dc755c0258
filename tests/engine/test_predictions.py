"""Predictions follow their object: a new version's replace the earlier ones, and no others."""

import copy

import pytest

from ls_pipeline.domain.errors import LabelStudioUnavailableError, TasksRefusedError
from ls_pipeline.resources.ledger.intents import LOOK_SECONDS
from tests.bench import RESULT, Bench
from tests.engine.test_changed_world import KillerAfterEffects
from tests.engine.test_crashes import Killed
from tests.engine.test_load import Wrapped


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger)


def prediction(version, choice="A", **more):
    result = [{**RESULT[0], "value": {"choices": [choice]}}]
    return {"model_version": version, "result": result, **more}


def put(bench, *versions, text="t", key="a.json", **more):
    predictions = [prediction(version) for version in versions]
    bench.put(key, {"data": {"text": text}, "predictions": predictions, **more})


def load(bench, *versions, **more):
    put(bench, *versions, **more)
    return bench.load()


def stored(bench, task_id=1):
    return bench.app.tasks[task_id]["predictions"]


def versions(bench, task_id=1):
    return sorted(item["model_version"] for item in stored(bench, task_id))


CHANGES = [
    ((), ("m2",)),
    (("m1",), ("m2",)),
    (("m1",), ()),
    (("m1",), ("m2", "m3")),
    (("m1", "m2"), ("m2", "m3")),
    (("m1", "m2", "m3"), ("m3",)),
    (("m1", "m1"), ("m1",)),
    (("m1",), ("m1", "m1")),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_new_version_replaces_the_predictions(bench, before, after):
    load(bench, *before)
    result = load(bench, *after)

    assert versions(bench) == sorted(after)
    assert (result.tasks_updated, result.notes, len(bench.tasks)) == (1, [], 1)


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_version_that_is_put_back_has_its_predictions(bench, before, after):
    load(bench, *before)
    load(bench, *after)
    load(bench, *before)

    assert versions(bench) == sorted(before)


def test_score_alone_is_another_prediction(bench):
    bench.put("a.json", {"data": {"text": "t"}, "predictions": [prediction("m", score=0.1)]})
    bench.load()
    bench.put("a.json", {"data": {"text": "t"}, "predictions": [prediction("m", score=0.9)]})
    bench.load()

    assert [item["score"] for item in stored(bench)] == [0.9]


def test_predictions_that_did_not_change_are_not_touched(bench):
    load(bench, "m1", "m2")
    before = stored(bench)
    load(bench, "m1", "m2", text="new")

    assert (stored(bench), bench.tasks) == (before, {("a.json", 0): {"text": "new"}})


@pytest.mark.parametrize("model", ["m1", "m2", "other"])
def test_predictions_that_others_made_stay(bench, model):
    load(bench, "m1")
    theirs = bench.app.predict(1, prediction(model)["result"], model_version=model)
    for after in (["m2"], ["m3"], [], ["m1"]):
        load(bench, *after)

        assert versions(bench) == sorted([model, *after])
        assert theirs in [item["id"] for item in stored(bench)]


def test_prediction_that_a_person_deleted_comes_only_with_a_new_version(bench):
    load(bench, "m1", "m2")
    bench.app.delete_prediction(stored(bench)[0]["id"])
    bench.load()
    kept = versions(bench)
    load(bench, "m1", "m2", text="new")

    assert (kept, versions(bench)) == (["m2"], ["m1", "m2"])


@pytest.mark.parametrize("work", ["annotate", "draft"])
def test_predictions_of_a_task_with_human_work_stay(bench, work):
    load(bench, "m1")
    getattr(bench.app, work)(1, RESULT)
    result = load(bench, "m2")

    assert (versions(bench), result.tasks_kept, len(result.notes)) == (["m1"], 1, 1)


@pytest.mark.parametrize("work", ["annotate", "draft"])
def test_labeled_task_gets_new_predictions_if_wanted(bench, work):
    bench.set(predictions_on_labeled="add")
    load(bench, "m1")
    getattr(bench.app, work)(1, RESULT)
    meta = bench.app.tasks[1]["meta"]
    result = load(bench, "m2")
    again = load(bench, "m1", "m2")

    assert (versions(bench), result.tasks_updated, result.notes) == (
        ["m1", "m1", "m2", "m2"],
        1,
        [],
    )
    assert (again.tasks_updated, bench.app.tasks[1]["meta"]) == (1, meta)


def test_labeled_task_of_other_data_gets_no_predictions(bench):
    bench.set(predictions_on_labeled="add")
    load(bench, "m1")
    bench.app.annotate(1, RESULT)
    result = load(bench, "m2", text="new")

    assert (versions(bench), result.tasks_kept) == (["m1"], 1)


def test_labeled_task_without_predictions_of_its_own_to_add_is_kept(bench):
    bench.set(predictions_on_labeled="add")
    load(bench, "m1")
    bench.app.annotate(1, RESULT)
    result = load(bench, "m1", meta={"more": 1})

    assert (versions(bench), result.tasks_kept) == (["m1"], 1)


@pytest.mark.parametrize("call", ["update_task", "add_prediction"])
def test_task_labeled_during_its_update_keeps_data_and_predictions(bench, call):
    load(bench, "m1", "m2")
    before = copy.deepcopy(bench.app.tasks[1])
    before = {name: before[name] for name in ("data", "meta", "predictions")}
    put(bench, "m3", "m4", text="new")

    def then_label(*args):
        getattr(bench.app, call)(*args)
        if not bench.app.tasks[1]["annotations"]:
            bench.app.annotate(1, RESULT)

    result = bench.load(app=Wrapped(bench.app, **{call: then_label}))

    assert {name: bench.app.tasks[1][name] for name in before} == before
    assert result.tasks_kept == 1


def test_annotations_of_a_new_version_are_not_taken_and_named_once(bench):
    rows = [{"data": {"text": str(n)}} for n in range(3)]
    bench.put("a.json", rows)
    bench.load()
    bench.put("a.json", [{**row, "annotations": [{"result": RESULT}]} for row in rows])
    result = bench.load()

    assert [task["annotations"] for task in bench.app.tasks.values()] == [[], [], []]
    assert len(result.notes) == 1
    assert "a.json has annotations (3) for rows that changed" in result.notes[0]


def test_tasks_of_an_object_that_stay_are_named_in_one_note(bench):
    rows = [{"data": {"text": str(n)}} for n in range(3)]
    bench.put("a.json", rows)
    bench.load()
    for task_id in (1, 2):
        bench.app.annotate(task_id, RESULT)
    bench.put("a.json", [{**row, "predictions": [prediction("m")]} for row in rows])
    result = bench.load()

    assert (result.tasks_kept, result.tasks_updated, len(result.notes)) == (2, 1, 1)
    assert "people have worked on 2 of its tasks, such as task 1" in result.notes[0]


def test_update_whose_prediction_is_refused_is_undone_and_goes_to_quarantine(bench):
    load(bench, "m1")
    before = copy.deepcopy(bench.app.tasks[1])

    def add_prediction(task_id, body):
        if body["model_version"] == "m3":
            raise TasksRefusedError("it does not fit.", {})
        bench.app.add_prediction(task_id, body)

    put(bench, "m2", "m3", text="new")
    bench.load(app=Wrapped(bench.app, add_prediction=add_prediction))

    assert {**bench.app.tasks[1], "updated_at": ""} == {**before, "updated_at": ""}
    assert list(bench.reasons) == [("a.json", 0)]


# -- exports ------------------------------------------------------------------------------------


def test_new_prediction_alone_rewrites_no_file_and_makes_no_snapshot(bench):
    bench.set(predictions_on_labeled="add")
    load(bench, "m1")
    bench.app.annotate(1, RESULT)
    bench.export()
    files, changes = bench.files, bench.connection_ledger.exports.snapshot_state().changes
    load(bench, "m2")
    bench.app.predict(1, RESULT, model_version="theirs")
    result = bench.export()

    assert (result.selected, result.written, bench.files) == (1, 0, files)
    assert bench.connection_ledger.exports.snapshot_state().changes == changes


def test_file_that_is_written_has_the_predictions(bench):
    load(bench, "m1")
    bench.app.annotate(1, RESULT)
    bench.export()
    bench.app.predict(1, RESULT, model_version="theirs")
    bench.app.annotate(1, RESULT)
    bench.export()

    (file,) = bench.files.values()
    assert b'"model_version":"theirs"' in file.replace(b": ", b":")
    assert b"neighbors" not in file


# -- runs that are killed, and requests that are lost or late -------------------------------------


def theirs(bench):
    bench.app.predict(1, RESULT, model_version="theirs")


def update(bench):
    load(bench, "m1", "m2")
    theirs(bench)
    put(bench, "m3", "m4", text="new")
    return ["m3", "m4"]


def second_update(bench):
    load(bench, "m1")
    load(bench, "m2", "m3")
    theirs(bench)
    put(bench, "m1", "m4")
    return ["m1", "m4"]


def removal(bench):
    load(bench, "m1", "m2")
    theirs(bench)
    put(bench)
    return []


def labeled(bench):
    bench.set(predictions_on_labeled="add")
    load(bench, "m1")
    theirs(bench)
    bench.app.annotate(1, RESULT)
    put(bench, "m2", "m3")
    return ["m1", "m2", "m3"]


CASES = [update, second_update, removal, labeled]


def nothing(_bench, wanted):
    return wanted


def put_back(bench, _wanted):
    put(bench, "m1", "m2")
    return ["m1", "m2"]


def replaced(bench, _wanted):
    put(bench, "m9", text="newest")
    return ["m9"]


def run(bench, killer):
    bench.load(killer.wrap(bench.bucket), app=killer.wrap(bench.app), wrap=killer.wrap)


@pytest.mark.slow
@pytest.mark.parametrize("then", [nothing, put_back, replaced])
@pytest.mark.parametrize("prepare", CASES[:3])
def test_run_killed_anywhere_ends_with_the_newest_predictions(empty_ledger, prepare, then):
    undisturbed = Bench(empty_ledger, "undisturbed")
    killer = KillerAfterEffects()
    wanted = prepare(undisturbed)
    run(undisturbed, killer)
    assert versions(undisturbed) == sorted([*wanted, "theirs"])
    for at in range(1, killer.calls + 1):
        bench = Bench(empty_ledger, f"killed-{at}")
        wanted = prepare(bench)
        with pytest.raises(Killed):
            run(bench, KillerAfterEffects(at))
        wanted = then(bench, wanted)
        for _ in range(2):
            bench.load()
            assert versions(bench) == sorted([*wanted, "theirs"]), f"killed at {at}"
            bench.time.sleep(600)


@pytest.mark.slow
def test_run_killed_anywhere_ends_with_the_newest_predictions_for_a_new_ledger(
    empty_ledger, tmp_path
):
    for at in range(1, 30):
        bench = Bench(empty_ledger, f"killed-{at}")
        wanted = update(bench)
        try:
            run(bench, KillerAfterEffects(at))
        except Killed:
            bench.replace_ledger(f"sqlite:///{tmp_path / str(at)}")
            bench.rebind("take-over")
            bench.load()
            assert versions(bench) == sorted([*wanted, "theirs"]), f"killed at {at}"
            bench.ledger.close()
        else:
            break
    assert at > 10


LOST = [(prepare, then) for prepare in CASES[:3] for then in (nothing, put_back, replaced)]
LOST.append((labeled, nothing))  # a labeled task keeps the predictions of each version


class Lossy:
    """Passes calls on; the request ``at`` has no answer, and takes effect when it ``lands``."""

    def __init__(self, app, at, lands):
        self._app, self._at, self._lands = app, at, lands
        self.calls, self.held = 0, None

    def __getattr__(self, name):
        attribute = getattr(self._app, name)
        if name not in {"update_task", "add_prediction", "delete_prediction"}:
            return attribute

        def call(*args):
            self.calls += 1
            if self.calls != self._at:
                return attribute(*args)
            if self._lands == "at once":
                attribute(*args)
            elif self._lands == "late":
                self.held = (attribute, args)
            raise LabelStudioUnavailableError("no answer")

        return call

    def deliver(self):
        if self.held:
            attribute, args = self.held
            attribute(*args)


@pytest.mark.slow
@pytest.mark.parametrize("lands", ["never", "at once", "late"])
@pytest.mark.parametrize(("prepare", "then"), LOST)
def test_request_without_an_answer_leaves_the_newest_predictions(
    empty_ledger, prepare, then, lands
):
    for at in range(1, 20):
        bench = Bench(empty_ledger, f"lost-{at}")
        wanted = prepare(bench)
        lossy = Lossy(bench.app, at, lands)
        try:
            bench.load(app=lossy)
        except LabelStudioUnavailableError:
            pass
        else:
            break
        wanted = then(bench, wanted)
        bench.load()
        lossy.deliver()
        bench.load()
        for _ in range(2):
            bench.time.sleep(600)
            bench.load()
            assert versions(bench) == sorted([*wanted, "theirs"]), f"request {at}"
    assert at > 2


def test_update_without_an_answer_is_forgotten_after_two_hours(bench):
    update(bench)
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Lossy(bench.app, 2, "never"))
    for _ in range(len(LOOK_SECONDS) + 2):
        bench.load()
        bench.time.sleep(max(LOOK_SECONDS))

    assert bench.connection_ledger.intents.open() == []


def test_prediction_that_label_studio_stores_twice_is_there_once(bench):
    load(bench, "m1")
    put(bench, "m2")

    def add_twice(*args):
        bench.app.add_prediction(*args)
        bench.app.add_prediction(*args)

    bench.load(app=Wrapped(bench.app, add_prediction=add_twice))

    assert versions(bench) == ["m2"]


@pytest.mark.parametrize(
    ("at", "whose"), [*((at, "ours") for at in (1, 2, 3, 4)), (2, "a person's")]
)
def test_request_that_lands_on_a_new_task_with_the_same_id_is_made_good(bench, at, whose):
    bench.set(on_delete="delete")
    bench.app.reuses_ids = True
    load(bench, "m1")
    put(bench, "m2", text="new")
    lossy = Lossy(bench.app, at, "late")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=lossy)
    bench.app.delete_task(1)
    bench.bucket.delete("a.json")
    if whose == "ours":
        load(bench, "m1", key="b.json", text="b")
    else:
        bench.app.import_tasks(1, [{"data": {"text": "b"}, "predictions": [prediction("m1")]}])
        bench.load()
    assert list(bench.app.tasks) == [1]
    lossy.deliver()
    for _ in range(3):
        bench.load()

    assert [task["data"]["text"] for task in bench.app.tasks.values()] == ["b"]
    assert versions(bench, max(bench.app.tasks)) == ["m1"]


@pytest.mark.parametrize("at", [2, 3, 4])
def test_half_updated_task_that_a_person_labels_stays_and_is_named_once(bench, at):
    load(bench, "m1")
    put(bench, "m2", text="new")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Lossy(bench.app, at, "at once"))
    bench.app.annotate(1, RESULT)
    labeled = copy.deepcopy(bench.app.tasks[1])
    put(bench, "m1")
    notes = []
    for _ in range(6):
        notes += bench.load().notes
        bench.time.sleep(600)

    assert bench.app.tasks[1] == labeled
    assert len(notes) == 1


def test_prediction_that_lands_late_on_a_labeled_task_is_deleted(bench):
    load(bench, "m1")
    put(bench, "m2")
    lossy = Lossy(bench.app, 2, "late")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=lossy)
    put(bench, "m1")
    bench.load()
    bench.app.annotate(1, RESULT)
    lossy.deliver()
    bench.load()

    assert versions(bench) == ["m1"]


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_half_updated_task_is_finished_though_changes_are_ignored_since(bench, at):
    load(bench, "m1")
    put(bench, "m2")
    with pytest.raises(LabelStudioUnavailableError):
        bench.load(app=Lossy(bench.app, at, "at once"))
    bench.set(on_change="ignore")
    bench.load()

    assert (versions(bench), len(bench.tasks)) == (["m2"], 1)

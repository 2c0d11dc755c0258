"""Runs that fail anywhere, in a world that changes before the next run.

People label, delete and copy tasks at any moment; objects are put back, replaced and removed;
requests fail, land without an answer, or land late; the ledger and Label Studio are restored from
backups, or another Label Studio answers. Whatever the order: after a run that ends well, nothing is
lost and nothing is doubled.

The 20,000 steps are the same each time; ``--machine-steps 200000`` makes a long run of others.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections import Counter, defaultdict

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ls_pipeline.domain.errors import (
    BucketUnavailableError,
    IdentityError,
    LabelStudioUnavailableError,
    PipelineError,
    TasksRefusedError,
)
from ls_pipeline.domain.exports import LEFT_ALONE
from ls_pipeline.resources.ledger.intents import LOOK_SECONDS
from tests.bench import RESULT, Bench
from tests.contracts.memory_labeling_app import MemoryLabelingApp
from tests.engine.test_crashes import Killed, Killer
from tests.machine.running import LedgerFile, place_of, run_steps

pytestmark = pytest.mark.machine

KEYS = st.sampled_from(["a.json", "b.json", "c.json"])
CONTENTS = st.lists(st.sampled_from("xyz"), min_size=1, max_size=3)
MODELS = st.sampled_from(["", "m", "n", "mn"])
NUMBERS = st.integers(0, 40)
SHORT_RUN = 10_000
"""Rules. Each takes two steps or more on average: changes of the world, and runs."""
MOST_ROWS = 200
"""More rows than an object is ever numbered."""

WRITES = {
    "import_tasks",
    "update_task",
    "delete_task",
    "add_prediction",
    "delete_prediction",
    "add_mark",
    "raise_mark",
    "remove_mark",
    "put",
    "delete",
}
"""Calls that change something outside."""

FAULTS = ("none", "killed", "lost before", "lost after", "lands late", "500 after")
ACTS = ("nothing", "label", "delete", "copy")

taken = Counter()


def what_people_did(document):
    """What a file follows: a prediction that comes late never has it written again."""
    return {name: document[name] for name in document if name not in {"predictions", "updated_at"}}


class FaultyPart:
    """Passes calls on; at one of them a request fails, and before another one a person acts."""

    def __init__(self, part, world, fault, at):
        self._part, self._world = part, world
        self._fault, self._at = fault, at
        self._writes = 0
        self._last = ""

    def __getattr__(self, name):
        attribute = getattr(self._part, name)
        if not callable(attribute) or name == "uri":
            return attribute

        def call(*args, **kwargs):
            # Between the check and the deletion no person acts: that window is documented.
            # One who labels between an update and the look after it gets the old data.
            if name != "delete_task" and self._last not in {"update_task", "add_prediction"}:
                self._world.maybe_act()
            self._last = name
            if name in WRITES:
                self._writes += 1
                if self._writes == 1 + self._at % 5:
                    return self._fail(name, attribute, args, kwargs)
            return attribute(*args, **kwargs)

        return call

    def _fail(self, name, attribute, args, kwargs):
        if self._fault == "none":
            return attribute(*args, **kwargs)
        error = (
            BucketUnavailableError("s3://labels/", "no answer.")
            if name in {"put", "delete"}
            else LabelStudioUnavailableError("no answer")
        )
        taken[self._fault] += 1
        if self._fault == "lost before":
            raise error
        if self._fault == "lands late":
            self._world.late.append((self._world.bench.time.now, name, attribute, args, kwargs))
            raise error
        result = attribute(*args, **kwargs)
        if self._fault == "lost after":
            raise error
        if self._fault == "500 after":
            raise TasksRefusedError("500", {}, crashed=True) if name == "import_tasks" else error
        return result


class ChangingWorld(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.ledger_file.empty()
        self.bench = Bench(self.ledger_file.ledger)
        self.content = {}
        self.models = {}
        """Key → the models with a prediction for each row of the object."""
        self.labels = {}
        """Annotation id → (task id, the text that the person saw)."""
        self.copies = set()
        self.absent = set()
        """(key, row) whose task a person has deleted: it need not exist any more."""
        self.late = []
        self.ledger_backup = self.label_studio_backup = None
        self.is_restored = False
        """Whether Label Studio was restored since the connection was bound."""
        self.is_ledger_restored = False
        """Whether the ledger was restored since the last runs that ended well."""
        self.act, self.act_in = "nothing", 0

    @initialize(
        size=st.sampled_from([0, 2]),
        on_delete=st.sampled_from(["keep", "delete"]),
        reuses_ids=st.booleans(),
    )
    def begin(self, size, on_delete, reuses_ids):
        self.on_delete = on_delete
        self.bench.app.reuses_ids = reuses_ids
        self.bench.set(on_delete=on_delete, tasks_per_project=size)

    def teardown(self):
        try:
            self.deliver()
            self.settle()
        finally:
            shutil.rmtree(self.folder)

    # -- people and buckets -----------------------------------------------------------------

    @rule(key=KEYS, content=CONTENTS, models=MODELS)
    def put(self, key, content, models=""):
        taken["steps"] += 1
        self.content[key], self.models[key] = content, models
        predictions = [{"model_version": model, "result": RESULT} for model in models]
        self.bench.put(
            key, [{"data": {"text": text}, "predictions": predictions} for text in content]
        )

    @rule(key=KEYS)
    def remove(self, key):
        taken["steps"] += 1
        self.content.pop(key, None)
        self.bench.bucket.delete(key)

    @rule(act=st.sampled_from(ACTS[1:]), number=NUMBERS)
    def act_now(self, act, number):
        self.do(act, number)

    def maybe_act(self):
        """Let a person act at the call that a run has reached, if it is the one."""
        self.act_in -= 1
        if self.act_in == 0 and self.act != "nothing":
            taken["acted during a run"] += 1
            self.do(self.act, self.act_in_number)

    def do(self, act, number):
        tasks = sorted(self.bench.app.tasks)
        if not tasks:
            return
        taken["steps"] += 1
        task_id = tasks[number % len(tasks)]
        task = self.bench.app.tasks[task_id]
        if act == "label":
            annotation = self.bench.app.annotate(task_id, RESULT)
            self.labels[annotation] = (task_id, task["data"]["text"])
        elif act == "delete" and not self.has_copies(task):
            self.forget_labels(task_id)
            self.bench.app.delete_task(task_id)
            if task_id in self.copies:
                self.copies.discard(task_id)
            else:
                self.absent.add(place_of(task))
        elif act == "copy" and task_id not in self.copies:
            again = {"data": task["data"], "meta": task["meta"]}
            self.copies.update(self.bench.app.import_tasks(task["project"], [again]))

    def has_copies(self, task):
        return any(place_of(self.bench.app.tasks[each]) == place_of(task) for each in self.copies)

    def forget_labels(self, task_id):
        self.labels = {key: value for key, value in self.labels.items() if value[0] != task_id}

    @rule(seconds=st.sampled_from([1, 120, 4000, sum(LOOK_SECONDS)]))
    def wait(self, seconds):
        taken["steps"] += 1
        self.bench.time.sleep(seconds)

    # -- runs that may fail -----------------------------------------------------------------

    @rule(
        work=st.sampled_from(["load", "load", "export", "snapshot"]),
        fault=st.sampled_from(FAULTS),
        at=st.integers(1, 60),
        act=st.sampled_from(ACTS),
        number=NUMBERS,
        act_in=st.integers(1, 30),
    )
    def run_that_may_fail(self, work, fault, at, act, number, act_in):
        if self.is_ledger_restored:
            self.delete_ambiguous_copies()
        self.act, self.act_in, self.act_in_number = act, act_in, number
        try:
            self.run(work, fault, at)
        except Killed:
            taken["killed"] += 1
        except IdentityError:
            assert self.is_restored
        except PipelineError:
            taken["failed"] += 1
        self.act = "nothing"

    def run(self, work, fault="none", at=0):
        taken["steps"] += 1
        bench, wrap = self.bench, lambda held: held
        bucket = bench.bucket if work == "load" else bench.target
        if fault == "killed":
            killer = Killer(at)
            bucket, app, wrap = killer.wrap(bucket), killer.wrap(bench.app), killer.wrap
        else:
            bucket = FaultyPart(bucket, self, fault if work != "load" else "none", at)
            app = FaultyPart(bench.app, self, fault, at)
        return getattr(bench, work)(bucket, app=app, wrap=wrap)

    @precondition(lambda self: self.late)
    @rule()
    def deliver(self):
        """Let requests land whose senders have stopped waiting, unless it is too late for that."""
        for sent_at, name, call, args, kwargs in self.late:
            if self.bench.time.now - sent_at >= sum(LOOK_SECONDS):
                continue
            taken["landed late"] += 1
            if name in {"delete_task", "update_task"}:
                # Label Studio can't refuse it. What a person did since is not safe from it.
                self.forget_labels(args[0])
                if name == "delete_task":
                    self.copies.discard(args[0])
            try:
                call(*args, **kwargs)
            except PipelineError:
                taken["refused late"] += 1
        self.late.clear()

    @rule(
        key=KEYS,
        content=CONTENTS,
        models=MODELS,
        first=st.sampled_from(["put", "remove"]),
        fault=st.sampled_from(FAULTS[1:]),
        at=st.integers(1, 60),
        change=st.sampled_from(["put back", "put back", "replace", "remove", *ACTS]),
    )
    def fail_change_and_settle(self, key, content, models, first, fault, at, change):
        """Change an object, fail to load that, and change the world before the next run."""
        before, models_before = self.content.get(key), self.models.get(key, "")
        if first == "put":
            self.put(key, content, models)
        else:
            self.remove(key)
        self.run_that_may_fail("load", fault, at, "nothing", 0, 0)
        if change == "replace":
            self.put(key, content[::-1], models[::-1])
        elif change == "remove" or (change == "put back" and before is None):
            self.remove(key)
        elif change == "put back":
            self.put(key, before, models_before)
        else:
            self.do(change, at)
        self.settle()
        self.deliver()
        self.settle()

    @rule(
        what=st.sampled_from(["ledger", "label_studio"]),
        key=KEYS,
        content=CONTENTS,
        act=st.sampled_from(ACTS),
        number=NUMBERS,
        choice=st.sampled_from(["reload", "forget"]),
    )
    def restore_after_changes(self, what, key, content, act, number, choice):
        """Restore a backup from before a load and an export."""
        getattr(self, f"back_up_{what}")()
        self.put(key, content)
        self.run_that_may_fail("load", "none", 0, "nothing", 0, 0)
        self.do(act, number)
        self.run_that_may_fail("export", "none", 0, "nothing", 0, 0)
        getattr(self, f"restore_{what}")()
        self.settle(choice)

    # -- backups ----------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["ledger", "label_studio"]),
        do=st.sampled_from(["back_up", "back_up", "restore", "restore", "swap"]),
    )
    def use_backups(self, what, do):
        if do == "swap":
            self.swap_label_studio()
        elif do == "back_up" or getattr(self, f"{what}_backup"):
            getattr(self, f"{do}_{what}")()

    def back_up_ledger(self):
        self.ledger_backup = f"{self.folder}/backup.db"
        self.ledger_file.back_up(self.ledger_backup)

    def restore_ledger(self):
        taken["ledger restored"] += 1
        taken["steps"] += 1
        # It knows of no prediction that is on its way.
        self.late = [each for each in self.late if "prediction" not in each[1]]
        self.ledger_file.restore(self.ledger_backup)
        self.bench.connection_ledger = self.bench.ledger.connection_ledger(self.bench.name)
        bound = self.bench.connection_ledger.projects.bound().values()
        projects = self.bench.app.existing_projects([project.id for project in bound])
        created = {(project.id, project.created_at) for project in projects.values()}
        if not created.issuperset((project.id, project.created_at) for project in bound):
            self.is_restored = True  # the backup is from before another binding
        self.is_ledger_restored = True
        self.trust_what_exists()

    def trust_what_exists(self):
        """What the pipeline has deleted looks like what a person deleted to an older ledger."""
        rows = {(f"{key}.json", row) for key in "abc" for row in range(MOST_ROWS)}
        self.absent |= rows - self.original_places()

    def delete_ambiguous_copies(self):
        """Delete copies that a look at all tasks may take for originals, because these are gone.

        Or will be: if Label Studio's mark is older than the target's, an export has a second look
        begin, after the run before it has deleted tasks.
        """
        originals = self.original_places()
        if self.on_delete == "delete":
            originals -= self.places_that_may_go()
        for task_id in sorted(self.copies):
            if place_of(self.bench.app.tasks[task_id]) not in originals:
                self.forget_labels(task_id)
                self.bench.app.delete_task(task_id)
                self.copies.discard(task_id)

    def original_places(self):
        tasks = self.bench.app.tasks.items()
        return {place_of(task) for task_id, task in tasks if task_id not in self.copies}

    def places_that_may_go(self):
        """Return the places of tasks that have no label and may have no row with their text."""
        free = {key: Counter(texts) for key, texts in self.content.items()}
        places = set()
        for task_id, task in self.bench.app.tasks.items():
            key, text = place_of(task)[0], task["data"]["text"]
            free.setdefault(key, Counter())[text] -= task_id not in self.copies
            if free[key][text] < 0:
                places.add(place_of(task))
        return places

    def rows_of(self, key):
        """Return the number of the row at each position of an object, as the ledger knows it."""
        rows = self.bench.connection_ledger.objects.rows_of(key)
        positions = {row.position: number for number, row in rows.items()}
        return [positions.get(position) for position in range(len(self.content.get(key, ())))]

    def back_up_label_studio(self):
        self.label_studio_backup = copy.deepcopy(
            (self.bench.app.__dict__, self.labels, self.copies)
        )

    def restore_label_studio(self):
        taken["Label Studio restored"] += 1
        taken["steps"] += 1
        state, labels, copies = copy.deepcopy(self.label_studio_backup)
        self.bench.app.__dict__.clear()
        self.bench.app.__dict__.update(state)
        self.labels, self.copies = labels, copies
        self.late.clear()
        self.is_restored = True

    def swap_label_studio(self):
        """Ask another Label Studio, in which a project has the same id."""
        if not self.bench.connection_ledger.projects.ids():
            return
        taken["Label Studio swapped"] += 1
        ours, other = self.bench.app, MemoryLabelingApp()
        other.create_project("A person's", "<View></View>")
        self.bench.app = other
        self.stops()
        self.bench.app = ours

    def stops(self):
        """Assert that each run stops, and changes nothing."""
        before = repr((self.bench.app.__dict__, self.bench.target.objects))
        for work in ("load", "export", "snapshot"):
            with pytest.raises(IdentityError):
                self.run(work)
        assert repr((self.bench.app.__dict__, self.bench.target.objects)) == before

    # -- what must be true ------------------------------------------------------------------

    @rule(choice=st.sampled_from(["reload", "forget"]))
    def settle(self, choice="reload"):
        """Run without faults; whatever happened before, everything is right then."""
        if self.is_ledger_restored:
            self.delete_ambiguous_copies()
        try:
            self.run("load")
        except IdentityError:
            assert self.is_restored
            taken["stopped"] += 1
            self.stops()
            self.delete_ambiguous_copies()
            self.bench.rebind(choice)
            before = set(self.absent)
            self.trust_what_exists()
            if choice == "reload":
                self.absent = before
            self.run("load")
        self.is_restored = False
        self.export_and_check()
        if self.is_ledger_restored:  # then the export may have had a second look begin
            second = self.bench.load()
            assert (second.tasks_created, second.tasks_deleted) == (0, 0)
        self.is_ledger_restored = False
        done = self.bench.load()
        assert (done.tasks_created, done.tasks_updated, done.tasks_deleted) == (0, 0, 0)
        before = dict(self.bench.files)
        self.bench.export()
        assert self.bench.files == before

    def export_and_check(self):
        taken["steps"] += 1
        self.bench.export()
        tasks = self.bench.app.tasks
        for annotation, (task_id, text) in self.labels.items():
            assert task_id in tasks, f"label {annotation} of task {task_id} is lost"
            assert annotation in {each["id"] for each in tasks[task_id]["annotations"]}
            assert tasks[task_id]["data"]["text"] == text
        assert self.copies <= set(tasks)
        self.check_rows()
        self.check_files()

    def check_rows(self):
        ours = defaultdict(list)
        for task_id, task in self.bench.app.tasks.items():
            if task_id not in self.copies:
                ours[place_of(task)].append(task)
        for place, tasks in ours.items():
            unlabeled = [task for task in tasks if not task["annotations"]]
            assert len(tasks) == 1 or not unlabeled, f"{place} is doubled"
        for key, texts in self.content.items():
            for row, text in zip(self.rows_of(key), texts, strict=True):
                tasks = ours.get((key, row), [])
                assert tasks or (key, row) in self.absent, f"{key} {row} is lost"
                for task in tasks:
                    assert task["data"]["text"] == text or task["annotations"]
                    found = sorted(each["model_version"] for each in task["predictions"])
                    assert found == sorted(self.models[key]) or task["annotations"], task
        if self.on_delete == "delete":
            for place, tasks in ours.items():
                done = all(task["annotations"] for task in tasks)
                assert done or place[1] in self.rows_of(place[0]), f"{place} stays"

    def check_files(self):
        app = self.bench.app
        files = {key: json.loads(body) for key, body in self.bench.files.items() if "/" not in key}
        for project in app.projects:
            for completion in app.completions(project, list(app.tasks)):
                if completion.annotations:
                    written = files[f"{completion.task_id}.json"]
                    assert what_people_did(written) == what_people_did(completion.document)
        ids = [int(key.removesuffix(".json")) for key in files]
        records = self.bench.connection_ledger.exports.last_written(ids)
        for task_id, document in zip(ids, files.values(), strict=True):
            task = app.tasks.get(task_id)
            record = records.get(task_id)  # a restored ledger knows no tombstone since
            is_left = record is not None and record.digest == LEFT_ALONE
            assert task or is_left or not document["annotations"]
            assert not (task and task["annotations"] and document.get("deleted"))

    @invariant()
    def count(self):
        taken["rules"] += 1


def test_nothing_is_lost_or_doubled_however_the_world_changes(request, tmp_path):
    taken.clear()
    rules = run_steps(ChangingWorld, LedgerFile(tmp_path), request, SHORT_RUN)
    assert taken["rules"] >= rules
    assert taken["steps"] >= 2 * rules
    happened = (*FAULTS[1:], "acted during a run", "landed late", "ledger restored", "stopped")
    assert min(taken[name] for name in happened) > 0, taken

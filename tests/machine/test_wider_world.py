"""The changing world, in which more happens: people take labels back, and write drafts; objects
change during a run; the clock is set back; the target is emptied or restored; projects are deleted.
"""

from __future__ import annotations

import copy

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.bench import RESULT
from tests.machine.running import LedgerFile, run_steps
from tests.machine.test_changing_world import FAULTS, NUMBERS, ChangingWorld, taken

pytestmark = pytest.mark.machine

SHORT_RUN = 200
OTHER_RESULT = [{**RESULT[0], "value": {"choices": ["B"]}}]
OBJECT_ACTS = ("put", "put again", "remove")
PEOPLE_ACTS = ("label", "unlabel", "relabel", "draft", "copy", "delete")
OPERATORS_ACTS = (
    *("set clock back", "delete project"),
    *("empty target", "back up target", "restore target"),
)
CLOCK_SECONDS = (5, 7200, 400_000)


class WiderWorld(ChangingWorld):
    def __init__(self):
        super().__init__()
        self.drafts = {}
        """Task id → the text that the person saw who began a draft."""
        self.drafts_backup = {}
        self.target_backup = {}

    # -- what happens -----------------------------------------------------------------------

    @rule(
        first=st.sampled_from(["label", "label", "draft"]),
        then=st.sampled_from(["unlabel", "unlabel", "relabel", "draft", *OBJECT_ACTS]),
        number=NUMBERS,
        fault=st.sampled_from(FAULTS),
        at=st.integers(1, 60),
    )
    def change_ones_mind(self, first, then, number, fault, at):
        """Label a task, and take that back once it is exported, or after that failed."""
        self.do("put", number)
        self.run_that_may_fail("load", "none", 0, "nothing", 0, 0)
        self.do(first, number)
        self.run_that_may_fail("export", fault, at, "nothing", 0, 0)
        self.do(then, number)
        self.run_that_may_fail("load", fault, at, "nothing", 0, 0)
        self.settle()

    @rule(act=st.sampled_from(OPERATORS_ACTS), number=NUMBERS)
    def operators_act(self, act, number):
        if act == "set clock back":
            taken["clock set back"] += 1
            self.bench.time.now -= CLOCK_SECONDS[number % 3]
        elif act == "delete project":
            self.delete_project(number)
        else:
            self.change_target(act)

    @rule(
        work=st.sampled_from(["load", "load", "export", "snapshot"]),
        fault=st.sampled_from(FAULTS),
        at=st.integers(1, 60),
        act=st.sampled_from(OBJECT_ACTS + PEOPLE_ACTS),
        number=NUMBERS,
        act_in=st.integers(1, 30),
    )
    def more_happens_during_a_run(self, work, fault, at, act, number, act_in):
        self.run_that_may_fail(work, fault, at, act, number, act_in)

    def change_target(self, act):
        objects = self.bench.target.objects
        if act == "back up target":
            self.target_backup = copy.deepcopy(objects)
            return
        taken["target changed"] += 1
        objects.clear()
        if act == "restore target":
            objects.update(copy.deepcopy(self.target_backup))

    def delete_project(self, number):
        projects = sorted(self.bench.app.projects)
        if not projects:
            return
        taken["project deleted"] += 1
        project_id = projects[number % len(projects)]
        for task_id, task in list(self.bench.app.tasks.items()):
            if task["project"] == project_id:
                self.forget_labels(task_id)
                self.copies.discard(task_id)
        self.late.clear()
        self.bench.app.delete_project(project_id)
        # A backup would bring the project back next to the one that replaces it.
        self.label_studio_backup = None
        self.is_restored = True

    def do(self, act, number):
        key, app = f"{'abc'[number % 3]}.json", self.bench.app
        tasks = sorted(app.tasks)
        task_id = tasks[number % len(tasks)] if tasks else 0
        labels = sorted(self.labels)
        label = labels[number % len(labels)] if labels else 0
        if act == "put":
            self.put(key, list("xyz"[number % 3 :]), "mn"[: number % 3])
        elif act == "put again" and key in self.content:
            self.put(key, self.content[key], self.models[key])
        elif act == "remove":
            self.remove(key)
        elif act == "draft" and task_id:
            taken["draft"] += 1
            self.drafts.setdefault(task_id, app.tasks[task_id]["data"]["text"])
            app.draft(task_id, RESULT)
        elif act == "unlabel" and label:
            taken["label taken back"] += 1
            self.labels.pop(label)
            app.delete_annotation(label)
        elif act == "relabel" and label:
            app.edit(self.labels[label][0], OTHER_RESULT if number % 2 else RESULT)
        else:
            super().do(act, number)

    def forget_labels(self, task_id):
        super().forget_labels(task_id)
        self.drafts.pop(task_id, None)

    def back_up_label_studio(self):
        super().back_up_label_studio()
        self.drafts_backup = dict(self.drafts)

    def restore_label_studio(self):
        super().restore_label_studio()
        self.drafts = dict(self.drafts_backup)

    # -- what must be true ------------------------------------------------------------------

    def check_rows(self):
        """Check as for labels: a draft is a person's work, too."""
        app, tasks = self.bench.app, self.bench.app.tasks
        for task_id, text in self.drafts.items():
            assert task_id in tasks, f"the draft of task {task_id} is lost"
            assert tasks[task_id]["data"]["text"] == text
        app.tasks = {
            task_id: {**task, "annotations": task["annotations"] or task.get("drafts", [])}
            for task_id, task in tasks.items()
        }
        try:
            super().check_rows()
        finally:
            app.tasks = tasks


def test_nothing_is_lost_or_doubled_whatever_happens_in_between(request, tmp_path):
    taken.clear()
    run_steps(WiderWorld, LedgerFile(tmp_path), request, SHORT_RUN)
    happened = ("clock set back", "target changed", "project deleted", "draft", "label taken back")
    assert min(taken[name] for name in happened) > 0, taken

"""What `ls-pipeline connections rebind` shows, asks and does."""

import json

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.domain.errors import LabelStudioUnavailableError
from tests.bench import Bench
from tests.cli.memory_context import MemoryContext
from tests.engine.test_identity import world
from tests.engine.test_load import Wrapped

RELOAD = (
    "The next run loads the 3 missing tasks again, if the objects are still in the source. Tasks "
    "that people deleted are among them. The 2 files of missing tasks stay as they are. A file is "
    "replaced only if a new task gets its number and is labeled. The next snapshot of training "
    "data is without them."
)
FORGET = (
    "The 3 missing tasks count as deleted by a person: none is loaded until its object changes. "
    "The next export replaces the 2 files of missing tasks by tombstones, or deletes them if the "
    "target has `delete`."
)


@pytest.fixture
def bench(empty_ledger):
    """Return a bench with three tasks; two are labeled and exported."""
    bench = Bench(empty_ledger)
    bench.fill("abc", labeled="ab")
    bench.export()
    return bench


@pytest.fixture
def emptied(bench):
    """Return a bench whose project was deleted."""
    bench.app.delete_project(1)
    return bench


@pytest.fixture
def claimed(bench):
    """Return a bench whose project another installation has taken over."""
    bench.app.add_mark(1, "f" * 32, "theirs", 3)
    return bench


def rebind(bench, *words, answer="", **parts):
    context = MemoryContext(bench, is_interactive=bool(answer), **parts)
    words = ["connections", "rebind", "reviews", *words]
    return CliRunner().invoke(main, words, obj=context, input=answer)


def test_nothing_differs(bench):
    before = world(bench)
    done = rebind(bench)

    assert (done.exit_code, world(bench)) == (0, before)
    assert done.stdout == (
        "Nothing differs: the projects and the target are those that the ledger knows.\n"
    )


def test_choice_without_a_difference_is_nothing_to_do(bench):
    before = world(bench)
    done = rebind(bench, "--take-over", "--yes")

    assert (done.exit_code, world(bench)) == (0, before)
    assert done.stdout.startswith("Nothing differs: ")


def test_deleted_project_is_shown_with_the_choices(emptied):
    before = world(emptied)
    done = rebind(emptied)

    assert (done.exit_code, world(emptied)) == (1, before)
    assert done.stdout.splitlines() == [
        "Connection 'reviews' does not fit what its ledger knows:",
        "  Project 1 does not exist any more.",
        "It would go on with:",
        "  a new project 'Reviews', which the next run creates",
        "3 of 3 tasks that the ledger knows do not exist in Label Studio.",
        "2 files in the target may hold labels of tasks that do not exist in Label Studio.",
        "You can choose:",
        "  --reload",
        f"      {RELOAD}",
        "  --forget",
        f"      {FORGET}",
    ]


def test_another_installation_is_shown_with_the_project(claimed):
    done = rebind(claimed)

    assert done.exit_code == 1
    assert "  Project 1 belongs to connection 'theirs' of another installation (ledger f" in (
        done.stdout
    )
    assert "  project 'Reviews', memory:1" in done.stdout
    assert done.stdout.endswith(
        "  --take-over\n"
        "      This installation goes on, and loads and exports what differs. The other one stops "
        "at its next change.\n"
    )


def test_person_is_asked_and_told_what_comes_next(emptied):
    done = rebind(emptied, "--reload", answer="y\n")

    assert done.exit_code == 0
    assert "Project 1 does not exist any more." in done.stdout
    assert "Go on? [y/N]: y" in done.stdout
    assert done.stdout.endswith(
        "Connection 'reviews' was rebound, and 3 tasks will be loaded again. Run `ls-pipeline "
        "sync reviews`, or wait for the sensors.\n"
    )
    assert emptied.load().tasks_created == 3


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_nothing_is_changed_without_consent(emptied, answer):
    before = world(emptied)
    done = rebind(emptied, "--reload", answer=answer)

    assert (done.exit_code, world(emptied)) == (1, before)
    assert rebind(emptied).exit_code == 1


def test_yes_answers_the_question(claimed):
    done = rebind(claimed, "--take-over", "--yes")

    assert (done.exit_code, "Go on?" in done.stdout) == (0, False)
    assert "Connection 'reviews' was taken over." in done.stdout
    assert rebind(claimed).exit_code == 0


@pytest.mark.parametrize("words", [["--reload"], ["--reload", "--json"]])
def test_without_a_terminal_the_consent_must_be_given(emptied, words):
    before = world(emptied)
    done = rebind(emptied, *words)

    assert (done.exit_code, "Go on?" in done.stdout, world(emptied)) == (2, False, before)
    assert "Add --yes, because there is no terminal to ask on." in done.stderr


def test_choices_exclude_each_other(emptied):
    done = rebind(emptied, "--reload", "--forget", "--yes")

    assert (done.exit_code, done.stdout) == (2, "")
    assert "Choose one of --take-over, --reload and --forget." in done.stderr


def test_choice_that_is_not_offered_is_refused_before_the_question(emptied):
    before = world(emptied)
    done = rebind(emptied, "--take-over", answer="y\n")

    assert (done.exit_code, done.stdout, world(emptied)) == (1, "", before)
    assert done.stderr == (
        "Error: Connection 'reviews' was not rebound: --take-over is not offered, only --reload "
        "and --forget. See what `ls-pipeline connections rebind reviews` offers.\n"
    )


def test_run_that_works_on_the_connection_is_named(emptied, environment):
    environment.setattr("ls_pipeline.cli.connections.holding.PATIENCE", 0)
    with emptied.connection_ledger.acquire():
        done = rebind(emptied)

    assert (done.exit_code, "is being worked on by" in done.stderr) == (1, True)


def test_label_studio_that_is_down_is_one_sentence(emptied):
    def fail(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    done = rebind(emptied, label_studio=Wrapped(emptied.app, marks=fail))

    assert (done.exit_code, done.stderr) == (1, "Error: Label Studio does not answer.\n")


def test_bucket_that_does_not_exist_is_one_sentence(emptied):
    emptied.target.exists = False
    done = rebind(emptied)

    assert (done.exit_code, "s3://labels/: the bucket does not exist." in done.stderr) == (1, True)


def test_json_has_the_findings_and_what_was_done(emptied):
    shown = json.loads(rebind(emptied, "--json").stdout)
    done = rebind(emptied, "--forget", "--yes", "--json")
    after = json.loads(rebind(emptied, "--json").stdout)

    assert shown["differences"] == ["Project 1 does not exist any more."]
    assert (shown["known"], shown["missing"], shown["missing_files"]) == (3, 3, 2)
    assert (list(shown["choices"]), shown["done"]) == (["reload", "forget"], None)
    assert (done.exit_code, json.loads(done.stdout)["done"]) == (0, "forget")
    assert (after["differences"], after["projects"]) == ([], [])


def test_tasks_that_people_deleted_can_be_loaded_again(bench):
    bench.app.delete_task(bench.task_id("c.json"))
    shown = rebind(bench)
    done = rebind(bench, "--reload", "--yes")

    assert (shown.exit_code, done.exit_code) == (0, 0)
    assert "1 of 3 tasks that the ledger knows does not exist in Label Studio." in shown.stdout
    assert "1 task will be loaded again" in done.stdout
    assert bench.load().tasks_created == 1


def test_many_files_are_said_to_wait_for_consent(bench):
    bench.fill(range(30), labeled=range(30))
    bench.export()
    bench.app.delete_project(1)

    assert "If these are most of the files, it waits for --allow-mass-change." in (
        rebind(bench).stdout
    )

"""A run that stopped because a person has to decide is not requested again and again."""

import dagster as dg
import pytest

from ls_pipeline.engine.detect import wants_snapshot
from ls_pipeline.resources.ledger.health import RETRY_AT_MOST, RETRY_UNDECIDED
from ls_pipeline.sensors.completions import completions_tick
from ls_pipeline.sensors.objects import objects_tick
from tests.assets.test_consent import CONSENT, emptied, run  # noqa: F401 - a fixture
from tests.bench import RESULT
from tests.standalone import completions, tasks

ASSETS = {"tasks": tasks, "completions": completions}
HINT = "allow it once with `ls-pipeline sync reviews --allow-mass-change`"


def tick(bench, instance, work):
    """Return the skip message of a tick; empty if it requests a run."""
    context = dg.build_sensor_context(instance=instance)
    if work == "tasks":
        result = objects_tick(context, bench.ledger, "s3", lambda _: bench.bucket)
    else:
        result = completions_tick(context, bench.ledger, bench.app)
    return result.skip_reason.skip_message if result.skip_reason else ""


@pytest.fixture(params=ASSETS)
def work(request):
    return request.param


@pytest.fixture
def stopped(emptied, instance, work):  # noqa: F811
    """Return a bench with a run of some work that stopped at the guard."""
    assert tick(emptied, instance, work) == ""
    assert HINT in run(emptied, instance, ASSETS[work])
    return emptied


def test_stopped_run_is_not_requested_again(stopped, instance, work):
    messages = {tick(stopped, instance, work) for _ in range(100)}

    (message,) = messages
    assert message.startswith("reviews: Connection 'reviews' stopped: this run would ")
    assert HINT in message
    assert "Trying again at 2027-01-16 08:00:0" in message


def test_stopped_run_is_tried_again_once_a_day(stopped, instance, work):
    stopped.time.sleep(RETRY_UNDECIDED - 60)
    before = tick(stopped, instance, work)
    stopped.time.sleep(120)
    after = tick(stopped, instance, work)
    run(stopped, instance, ASSETS[work])

    assert (HINT in before, after, HINT in tick(stopped, instance, work)) == (True, "", True)


def test_sensors_go_on_after_the_consent(stopped, instance, work):
    assert run(stopped, instance, ASSETS[work], CONSENT) == ""
    idle = tick(stopped, instance, work)
    if work == "tasks":
        stopped.put("new.json", {"text": "new"})
    else:
        stopped.app.annotate(stopped.task_id("0.json"), RESULT)

    assert idle in {"reviews: nothing new.", "reviews: no new labels."}
    assert tick(stopped, instance, work) == ""


def test_sensors_go_on_once_other_settings_are_saved(stopped, instance, work):
    stopped.set(on_change="ignore")

    assert tick(stopped, instance, work) == ""


def test_decision_about_one_work_delays_no_other(stopped, instance, work):
    other = {"tasks": "completions", "completions": "tasks"}[work]

    assert tick(stopped, instance, other) == ""


def test_stopped_run_is_requested_if_the_clock_is_set_back(stopped, instance, work):
    stopped.time.sleep(-2 * RETRY_UNDECIDED)

    assert tick(stopped, instance, work) == ""


def test_ordinary_failure_after_a_decision_waits_an_hour_at_most(stopped, instance, work):
    stopped.fail(work, "Label Studio is down.")
    stopped.time.sleep(RETRY_AT_MOST)

    assert tick(stopped, instance, work) == ""


def test_project_that_is_another_one_is_not_tried_again_and_again(emptied, instance, work):  # noqa: F811
    emptied.app.delete_project(1)
    assert "does not exist any more" in run(emptied, instance, ASSETS[work])
    messages = {tick(emptied, instance, work) for _ in range(100)}

    assert len(messages) == 1
    assert "`ls-pipeline connections rebind reviews`" in messages.pop()


def test_snapshot_waits_for_the_decision(bench):
    bench.fail("training_data", "It is another project.", needs_decision=True)
    bench.time.sleep(RETRY_UNDECIDED - 1)
    (waiting,) = bench.ledger.statuses()
    bench.time.sleep(1)
    (due,) = bench.ledger.statuses()

    assert [wants_snapshot(status, status.read_at) for status in (waiting, due)] == [False, True]

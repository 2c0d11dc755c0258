"""Probes in parallel: none delays another, even if it never returns."""

import threading
import time
from collections import deque
from dataclasses import replace
from functools import partial

import pytest

from ls_pipeline.domain.errors import LedgerUnavailableError, PipelineError
from ls_pipeline.sensors import probes
from ls_pipeline.sensors.probes import PROBES_AT_ONCE, Deadline, ProbePool, ProbeResult

NOTHING, NEW = ProbeResult(), ProbeResult(wanted=True)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(probes, "GRACE_SECONDS", 0.1)


@pytest.fixture
def gate():
    """Return an event that hanging probes wait for; it is set at the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def run(pool, names, probe, seconds=5.0):
    """Return the results, in their order, and the names that had no turn."""
    left = deque(names)
    results = pool.run_round_robin(left, lambda name: partial(probe, name), Deadline.after(seconds))
    return list(results), list(left)


def test_each_gets_a_turn():
    results, left = run(ProbePool(), "abc", lambda name, _: NEW if name == "b" else NOTHING)

    assert (sorted(results, key=str), left) == ([("a", NOTHING), ("b", NEW), ("c", NOTHING)], [])


def test_probes_that_hang_delay_no_other(gate):
    names = [f"hangs-{n}" for n in range(2 * PROBES_AT_ONCE)] + ["a", "b"]

    def probe(name, _):
        return NEW if not name.startswith("hangs") or gate.wait() else NOTHING

    results, left = run(ProbePool(), names, probe, 2.0)

    assert ([name for name, result in results if result.wanted], left) == (["a", "b"], [])
    assert {result.reason for _, result in results if not result.wanted} == {
        "no answer came in time."
    }


def test_probe_that_hangs_starts_once_and_a_later_tick_gets_its_result(gate):
    pool, started = ProbePool(), []

    def probe(name, _):
        started.append(name)
        gate.wait()
        return NEW

    run(pool, ["a"], probe, 0.2)
    (waiting,), _ = run(pool, ["a"], probe, 0.2)
    gate.set()
    time.sleep(0.1)
    (late,), _ = run(pool, ["a"], probe, 0.2)

    assert started == ["a"]
    assert waiting[1].reason == "an earlier probe still waits for an answer."
    assert late == ("a", replace(NEW, is_late=True))


def test_long_probe_goes_on_after_the_others():
    reached = iter(["1", "2", ""])

    def probe(name, _):
        return ProbeResult(reached=next(reached)) if name == "long" else NOTHING

    results, _ = run(ProbePool(), ["long", "a", "b"], probe)

    assert [result.reached for name, result in results if name == "long"] == ["1", "2", ""]


def test_names_that_have_no_turn_are_left():
    def probe(_, deadline):
        while not deadline.has_passed:
            time.sleep(0.01)
        return NOTHING

    names = [f"{number:02}" for number in range(3 * PROBES_AT_ONCE)]
    results, left = run(ProbePool(), names, probe, 0.05)

    assert sorted(name for name, _ in results) + left == names
    assert left


def test_first_gets_its_turn_whatever_the_time():
    results, left = run(ProbePool(), ["a", "b"], lambda *_: NOTHING, -1.0)

    assert (results, left) == ([("a", NOTHING)], ["b"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [(PipelineError("It is broken."), "It is broken."), (KeyError("x"), "KeyError: 'x'")],
)
def test_probe_that_fails_says_why_and_stops_no_other(error, reason):
    def probe(name, _):
        if name == "bad":
            raise error
        return NEW

    results, _ = run(ProbePool(), ["bad", "good"], probe)

    assert dict(results) == {"bad": ProbeResult(reason=reason, failed=True), "good": NEW}


def test_failure_of_the_ledger_that_is_over_fails_no_later_tick(gate):
    pool, broken = ProbePool(), [True]

    def probe(name, _):
        if name == "a" and broken:
            gate.wait()
            raise LedgerUnavailableError("sqlite:///ledger.db", "disk full")
        return NEW

    run(pool, ["a"], probe, 0.1)
    broken.clear()
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "a":
            thread.join()
    results = dict(run(pool, ["a", "b"], probe)[0])

    assert (results["b"], "disk full" in results["a"].reason) == (NEW, True)


def test_ledger_that_fails_fails_the_tick():
    def probe(*_):
        raise LedgerUnavailableError("sqlite:///ledger.db", "disk full")

    with pytest.raises(LedgerUnavailableError):
        run(ProbePool(), ["a"], probe)

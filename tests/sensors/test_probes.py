"""Looks side by side, some of which never return."""

import threading
import time
from collections import deque

import pytest

from ls_pipeline.domain.errors import LedgerUnavailableError, PipelineError
from ls_pipeline.sensors import probes as looking
from ls_pipeline.sensors.probes import PROBES_AT_ONCE, ProbePool, ProbeResult

NOTHING, NEW = ProbeResult(), ProbeResult(wanted=True)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(looking, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(looking, "SILENCE_SECONDS", 0.1)


@pytest.fixture
def gate():
    """Give an event that what hangs waits for; it is let go at the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def take(looks, names, look, seconds=5.0):
    """Give what was found, in its order, and who had no turn."""
    left = deque(names)
    return list(looks.run_round_robin(left, look, time.monotonic() + seconds)), list(left)


def test_each_gets_a_turn():
    found, left = take(ProbePool(), "abc", lambda name, _: NEW if name == "b" else NOTHING)

    assert (sorted(found, key=str), left) == ([("a", NOTHING), ("b", NEW), ("c", NOTHING)], [])


def test_looks_that_hang_hold_nobody_up(gate):
    names = [f"hangs-{n}" for n in range(2 * PROBES_AT_ONCE)] + ["a", "b"]

    def look(name, _):
        return NEW if not name.startswith("hangs") or gate.wait() else NOTHING

    found, left = take(ProbePool(), names, look, 2.0)

    assert ([name for name, one in found if one.wanted], left) == (["a", "b"], [])
    assert {one.why for _, one in found if not one.wanted} == {"no answer came in time."}


def test_look_that_hangs_is_not_begun_again_and_told_when_it_is_back(gate):
    looks, begun = ProbePool(), []

    def look(name, _):
        begun.append(name)
        gate.wait()
        return NEW

    take(looks, ["a"], look, 0.2)
    (still,), _ = take(looks, ["a"], look, 0.2)
    gate.set()
    time.sleep(0.1)
    (back,), _ = take(looks, ["a"], look, 0.2)

    assert begun == ["a"]
    assert (still[1].why, back) == ("a look that began earlier has not come back yet.", ("a", NEW))


def test_long_look_goes_on_after_the_others():
    reached = iter(["1", "2", ""])

    def look(name, _):
        return ProbeResult(reached=next(reached)) if name == "long" else NOTHING

    found, _ = take(ProbePool(), ["long", "a", "b"], look)

    assert [one.reached for name, one in found if name == "long"] == ["1", "2", ""]


def test_who_has_no_turn_is_left():
    def look(_, turn):
        while not turn.over:
            time.sleep(0.01)
        return NOTHING

    names = [f"{number:02}" for number in range(3 * PROBES_AT_ONCE)]
    found, left = take(ProbePool(), names, look, 0.05)

    assert sorted(name for name, _ in found) + left == names
    assert left


def test_first_gets_its_turn_whatever_the_time():
    found, left = take(ProbePool(), ["a", "b"], lambda *_: NOTHING, -1.0)

    assert (found, left) == ([("a", NOTHING)], ["b"])


@pytest.mark.parametrize(
    ("error", "why"),
    [(PipelineError("It is broken."), "It is broken."), (KeyError("x"), "KeyError: 'x'")],
)
def test_look_that_fails_says_why_and_stops_no_other(error, why):
    def look(name, _):
        if name == "bad":
            raise error
        return NEW

    found, _ = take(ProbePool(), ["bad", "good"], look)

    assert dict(found) == {"bad": ProbeResult(why=why), "good": NEW}


def test_failure_of_the_ledger_that_is_over_fails_no_later_tick(gate):
    looks, broken = ProbePool(), [True]

    def look(name, _):
        if name == "a" and broken:
            gate.wait()
            raise LedgerUnavailableError("sqlite:///ledger.db", "disk full")
        return NEW

    take(looks, ["a"], look, 0.1)
    broken.clear()
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "a":
            thread.join()
    found = dict(take(looks, ["a", "b"], look)[0])

    assert (found["b"], "disk full" in found["a"].why) == (NEW, True)


def test_ledger_that_fails_fails_the_tick():
    def look(*_):
        raise LedgerUnavailableError("sqlite:///ledger.db", "disk full")

    with pytest.raises(LedgerUnavailableError):
        take(ProbePool(), ["a"], look)

"""A cursor of another version, or of anything else, starts over."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.events import BucketEvent
from ls_pipeline.sensors import completions, notifications, objects
from tests.strategies import ANY_JSON, NUMBERS, TEXTS, like

STATES = [objects._State, completions._State, notifications._State]
NOW = "2026-01-02T03:04:05.000000Z"

cursors = like(
    first=TEXTS,
    after=st.dictionaries(TEXTS, TEXTS, max_size=2),
    as_of=st.sampled_from([NOW, "", "2026-13-45T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"]),
    behind=st.dictionaries(TEXTS, st.just(NOW), max_size=2),
    stalled_at=NUMBERS,
    backlog=like(
        events=st.dictionaries(TEXTS, st.lists(st.lists(TEXTS, max_size=5), max_size=2)),
        first_queue=TEXTS,
    ),
    webhooks=st.dictionaries(TEXTS, NUMBERS, max_size=2),
)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__module__)
@given(cursors.map(json.dumps) | TEXTS | ANY_JSON.map(json.dumps) | st.none())
def test_any_cursor_is_a_state_or_starts_over(state, cursor):
    parsed = state.from_cursor(cursor)

    assert isinstance(parsed, state)
    assert isinstance(state.from_cursor(parsed.cursor), state)


def test_times_that_are_none_start_over():
    late, odd = (json.dumps({"as_of": time}) for time in (NOW, "2026-13-45T00:00:00.000000Z"))

    assert completions._State.from_cursor(late).as_of == NOW
    assert completions._State.from_cursor(odd).as_of == ""


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__module__)
def test_cursor_survives(state):
    first = state()
    if isinstance(first, notifications._State):
        first.backlog.events = {"a": [BucketEvent("b", "k", "v", removed=True)]}

    assert state.from_cursor(first.cursor) == first

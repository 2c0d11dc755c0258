"""What strangers may send: any JSON, with texts and numbers that no column takes."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text(max_size=8) | st.sampled_from(["\0", "\ud800", "2026-13-45", "NaN"])
NUMBERS = (
    st.integers(-3, 3)
    | st.sampled_from([2**31, 2**63, -(2**63), 2**70, 2**1100])
    | st.floats()
    | st.booleans()
)
ANY_JSON = st.recursive(
    st.none() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=8,
)
"""Any JSON."""


def like(**members):
    """Return a strategy of objects: each member has its value, or any, or is missing."""
    strategies = {
        name: ANY_JSON | (value if isinstance(value, st.SearchStrategy) else st.just(value))
        for name, value in members.items()
    }
    return ANY_JSON | st.fixed_dictionaries({}, optional=strategies)

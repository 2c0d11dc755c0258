"""What strangers wrote controls nothing when it is shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.text import visible

TEXTS = st.text(st.characters(exclude_categories=()))
"""Any text, also with lone surrogates, as JSON can have them."""

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def controls(text):
    """Return the characters of a text that control a terminal or a line."""
    categories = {"Cc", "Cs", "Zl", "Zp"}
    return [
        each
        for each in text
        if unicodedata.category(each) in categories or unicodedata.bidirectional(each) in BIDI
    ]


@given(TEXTS)
def test_no_text_controls_anything(text):
    assert controls(visible(text)) == []


@given(TEXTS)
def test_what_is_visible_stays_as_it_is(text):
    assert visible(visible(text)) == visible(text)


@given(TEXTS.filter(lambda text: not controls(text)))
def test_text_without_controls_stays_as_it_is(text):
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x7f\x9b2J\x85", r"\x7f\x9b2J\x85"),
        ("cat\u202egpj.exe", r"cat\u202egpj.exe"),
        ("\u2066a\u2069 b\u2028c", r"\u2066a\u2069 b\u2028c"),
        ("\ud83d", r"\ud83d"),
        ("עברית, emoji 👩‍🚀, C:\\x1b", "עברית, emoji 👩‍🚀, C:\\x1b"),
    ],
)
def test_controls_are_shown_as_escapes(text, shown):
    assert visible(text) == shown

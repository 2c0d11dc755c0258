import pytest

from ls_pipeline.domain.notes import LONGEST_NOTE, MOST_NOTES, Notes, quoted, shorten


def test_few_notes_are_as_they_were_written():
    assert Notes(["a", "b"]) == ["a", "b"]


def test_many_notes_end_with_the_number_of_the_others():
    notes = Notes(map(str, range(MOST_NOTES + 1200)))

    assert notes == [*map(str, range(MOST_NOTES)), "… and 1,200 more."]


@pytest.mark.parametrize("first", [0, MOST_NOTES - 1, MOST_NOTES, MOST_NOTES + 5])
def test_added_notes_count_with_those_that_they_stand_for(first):
    notes = Notes(["note"] * first)
    notes += Notes(["note"] * (MOST_NOTES + 7))
    notes.append("last")

    assert notes == ["note"] * MOST_NOTES + [f"… and {first + 8} more."]


def test_long_note_is_cut():
    assert len(Notes(["x" * 10_000])[0]) == LONGEST_NOTE


def test_shortened_text_ends_with_an_ellipsis():
    assert (shorten("abc", 3), shorten("abcd", 3)) == ("abc", "ab…")


def test_name_is_quoted_on_one_line():
    assert quoted("a\n'b") == '"a\\n\'b"'

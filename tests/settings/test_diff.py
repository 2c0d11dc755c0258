import pytest

from ls_pipeline.domain.errors import InvalidConnectionError
from ls_pipeline.settings.diff import ChangedSetting, apply_form, diff_settings
from ls_pipeline.settings.validation import adding_errors
from tests.settings.test_validation import make, source, target


def test_changed_settings_are_listed_with_both_values():
    changes = diff_settings(make(source(prefix="a")), make(source(prefix="b")))

    assert changes == [ChangedSetting("source.params.prefix", "a", "b")]


def test_first_settings_are_those_that_were_set():
    changes = diff_settings(None, make(source(prefix="in"), target(), enabled=False))

    assert list(map(str, changes)) == [
        "name: 'reviews'",
        "source.path: 'bucket'",
        "source.params.prefix: '' → 'in'",
        "source.type: 's3'",
        "target.path: 'labels'",
        "target.type: 's3-completions'",
        "project: 'Reviews'",
        "enabled: True → False",
    ]


def test_side_that_is_added_or_removed_shows_only_what_was_set():
    without, added = make(source()), make(source(), target(prefix="out"))

    assert list(map(str, diff_settings(without, added))) == [
        "target.path: 'labels'",
        "target.params.prefix: '' → 'out'",
        "target.type: 's3-completions'",
    ]
    assert list(map(str, diff_settings(added, without))) == [
        "target.path: 'labels' → None",
        "target.params.prefix: 'out' → ''",
        "target.type: 's3-completions' → None",
    ]


def test_form_keeps_what_it_omits():
    before = make(source(prefix="a"), target(delete=True))

    assert apply_form("reviews", "source", before, {}) == before


def test_form_of_type_none_removes_a_side():
    before = make(source(prefix="a"), target())

    assert apply_form("reviews", "source", before, {"type": "none"}) == make(None, target())


def test_form_of_a_new_connection_is_checked():
    form = {"type": "s3", "path": "bucket", "regex": "("}

    with pytest.raises(InvalidConnectionError, match="is not valid RE2"):
        apply_form("reviews", "source", None, form)


def test_errors_from_before_are_reported_with_the_others():
    with pytest.raises(InvalidConnectionError) as caught, adding_errors("reviews", ["First."]):
        make()

    assert [error.partition(".")[0] for error in caught.value.errors] == [
        "First",
        "It has neither a source nor a target; set at least one",
    ]

from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.diff import Change, KnownObject, State, diff
from ls_pipeline.domain.objects import Filter, StoredObject

ALL = Filter()


def known(key, version="1", state=State.LOADED, size=1):
    return KnownObject(key, version, size, state)


def listed(key, version="1", size=1):
    return StoredObject(key, version, size)


def changes(was, now, select=ALL):
    return [(item.key, item.change) for item in diff(was, now, select)]


def test_diff_distinguishes_added_replaced_removed_and_unchanged():
    was = [known("b"), known("c"), known("d")]
    now = [listed("a"), listed("b"), listed("c", "2")]

    assert changes(was, now) == [
        ("a", Change.ADDED),
        ("b", Change.UNCHANGED),
        ("c", Change.REPLACED),
        ("d", Change.REMOVED),
    ]


def test_diff_sees_another_size_under_the_same_version():
    assert changes([known("a", size=1)], [listed("a", size=2)]) == [("a", Change.REPLACED)]


def test_diff_counts_a_page_delivered_twice_once():
    page = [listed("a"), listed("b")]

    assert changes([], [*page, *page]) == [("a", Change.ADDED), ("b", Change.ADDED)]


def test_diff_reports_a_removal_once():
    assert changes([known("a", state=State.REMOVED)], []) == []


def test_diff_sees_an_object_that_comes_back_as_added():
    assert changes([known("a", state=State.REMOVED)], [listed("a")]) == [("a", Change.ADDED)]


def test_diff_leaves_a_quarantined_version_alone():
    was = [known("a", state=State.QUARANTINED)]

    assert changes(was, [listed("a")]) == [("a", Change.UNCHANGED)]


def test_diff_takes_a_new_version_out_of_quarantine():
    was = [known("a", state=State.QUARANTINED)]

    assert changes(was, [listed("a", "2")]) == [("a", Change.REPLACED)]


def test_narrower_filter_removes_nothing():
    was = [known("a"), known("b")]

    assert changes(was, [listed("a"), listed("b")], Filter("", "a")) == [
        ("a", Change.UNCHANGED),
        ("b", Change.UNCHANGED),
    ]


def test_filter_leaves_new_and_replaced_objects_out():
    was = [known("b")]

    assert changes(was, [listed("b", "2"), listed("c")], Filter("", "a")) == [
        ("b", Change.FILTERED),
        ("c", Change.FILTERED),
    ]


keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=4)
versions = st.dictionaries(keys, st.sampled_from("12"))


@given(versions, versions)
def test_diff_equals_the_difference_of_two_dictionaries(was, now):
    differences = diff(
        [known(key, was[key]) for key in sorted(was)],
        [listed(key, now[key]) for key in sorted(now, key=str.encode)],
        ALL,
    )
    by_change = {change: set() for change in Change}
    for item in differences:
        by_change[item.change].add(item.key)
    plain = {key for key in now if not key.endswith("/")}

    assert by_change[Change.ADDED] == plain - set(was)
    assert by_change[Change.REMOVED] == set(was) - set(now)
    assert by_change[Change.REPLACED] == {k for k in plain if k in was and was[k] != now[k]}

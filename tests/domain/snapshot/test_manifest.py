import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.snapshot.manifest import (
    PART_TASKS,
    Tally,
    expired,
    failed_checks,
    merged,
    parquet,
    part_digest,
    read_parquet,
    snapshot_name,
    table_of,
    tally_of,
    total,
)
from ls_pipeline.domain.snapshot.splits import Shares, split_of
from ls_pipeline.domain.snapshot.tables import TABLES, rows_of
from tests.domain.snapshot.test_tables import KINDS, labeled

SHARES = Shares()
RESULTS = [one for one, _ in KINDS.values()]
DAY = 24 * 3600


def tables(completions, shares=SHARES):
    rows = rows_of(completions, shares)
    return {name: table_of(name, rows[name]) for name in TABLES}


@pytest.mark.slow
@given(
    st.dictionaries(st.integers(0, 20), st.lists(st.sampled_from(RESULTS), max_size=2)),
    st.dictionaries(st.integers(0, 20), st.lists(st.sampled_from(RESULTS), max_size=2)),
)
def test_part_with_changed_tasks_is_the_bytes_that_all_tasks_would_give(before, after):
    old = tables([labeled(number, some) for number, some in before.items()])
    changed = {number for number, some in after.items() if before.get(number) != some}
    gone = before.keys() - after.keys()
    new = tables([labeled(number, after[number]) for number in changed])
    whole = tables([labeled(number, some) for number, some in after.items()])

    for name in TABLES:
        kept = read_parquet(name, parquet(old[name]))
        found = merged(name, kept, changed | gone, new[name])
        assert parquet(found) == parquet(whole[name])


def test_names_sort_by_number_and_differ_by_content():
    names = [snapshot_name(9, ["a"]), snapshot_name(10, ["a"]), snapshot_name(10, ["b"])]

    assert names[0] < names[1]
    assert names[1] != names[2]


@pytest.mark.parametrize("other", [Shares(0.1, 0.2), Shares(0.2, 0.1)])
def test_other_shares_are_another_part(other):
    assert part_digest([(1, "a")], SHARES) != part_digest([(1, "a")], other)


def test_sound_part_fails_no_check():
    assert failed_checks(0, tables([labeled(1, RESULTS), labeled(2, [], [])]), SHARES) == {}


def test_failed_checks_of_a_part_are_named():
    sound = tables([labeled(1, RESULTS, RESULTS)])
    orphan = {**sound, "tasks": sound["tasks"].slice(0, 0)}
    lost = {**sound, "annotations": sound["annotations"].slice(0, 1)}
    twice = {**sound, "annotations": sound["annotations"].take([0, 0, 1])}
    other = {**sound, "tasks": sound["tasks"].drop_columns(["digest"])}

    assert "no_orphans" in failed_checks(0, orphan, SHARES)
    assert "no_orphans" in failed_checks(0, lost, SHARES)
    assert "no_orphans" in failed_checks(PART_TASKS, sound, SHARES)
    assert "no_duplicates" in failed_checks(0, twice, SHARES)
    assert "schema_as_declared" in failed_checks(0, other, SHARES)


def test_row_in_the_wrong_split_is_told():
    all_to_test = Shares(0.0, 0.999)
    found = failed_checks(0, tables([labeled(1, [])], Shares(0.999, 0.0)), all_to_test)

    assert found.keys() == {"no_split_leak"}
    assert found["no_split_leak"].startswith("s3://b/a is in another split")


def test_damaged_file_is_told():
    with pytest.raises(SnapshotError, match="no Parquet"):
        read_parquet("tasks", b"PAR1")
    with pytest.raises(SnapshotError, match="another schema"):
        read_parquet("tasks", parquet(table_of("results", [])))


def test_tally_of_parts_adds_up_to_the_tally_of_all():
    some = [labeled(number, RESULTS[number : number + 3], RESULTS[:2]) for number in range(8)]
    parts = [tally_of(tables(some[:3])), tally_of(tables(some[3:]))]
    whole = tally_of(tables(some))

    rounded = total(parts).model_copy(update={"agreement": whole.agreement})

    assert rounded == whole
    assert total(parts).agreement == pytest.approx(whole.agreement)
    assert whole.labels["c"]["a"]
    assert total([]) == Tally()


# -- splits -------------------------------------------------------------------------------------

SHARE = st.floats(0, 0.49)


@given(st.text(), SHARE, SHARE)
def test_split_depends_on_the_object_alone(uri, validation, test):
    shares = Shares(validation, test)

    assert split_of(uri, shares) == split_of(uri, shares)


@given(st.text(), SHARE, SHARE, SHARE, SHARE)
def test_growing_shares_take_objects_from_training_alone(uri, validation, test, more, most):
    before = split_of(uri, Shares(validation, test))
    after = split_of(uri, Shares(max(validation, more), max(test, most)))

    assert before in ("train", after)


def test_shares_are_about_kept():
    found = [split_of(f"s3://bucket/{number}.json", Shares(0.1, 0.2)) for number in range(5000)]

    assert found.count("validation") / 5000 == pytest.approx(0.1, abs=0.02)
    assert found.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


def test_split_of_an_object_never_changes():
    uris = [f"s3://bucket/{number}.json" for number in range(24)]

    found = {split_of(uri, SHARES): [] for uri in uris}
    for number, uri in enumerate(uris):
        found[split_of(uri, SHARES)].append(number)

    assert (found["test"], found["validation"]) == ([0, 8, 16, 17, 18, 22], [4])


# -- retention ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "keep_days", "gone"),
    [(1, 0, ["1", "2", "3"]), (3, 0, ["1"]), (1, 2, ["1", "2"]), (9, 0, []), (1, 99, [])],
)
def test_retention_keeps_the_newest_and_the_young(keep, keep_days, gone):
    written = {str(number): 100 * DAY - (4 - number) * DAY for number in (1, 2, 3, 4)}

    assert expired(written, "4", 100 * DAY + 1, keep, keep_days) == gone


def test_retention_never_takes_the_latest():
    assert expired({"1": 0.0, "2": 0.0, "3": 0.0}, "1", 100 * DAY, 1, 0) == ["2"]

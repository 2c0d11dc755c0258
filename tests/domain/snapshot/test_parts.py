import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.snapshot.manifest import Tally
from ls_pipeline.domain.snapshot.parts import (
    PART_BYTES,
    PART_TASKS,
    ROW_GROUP,
    ROW_GROUP_BYTES,
    Content,
    Range,
    add_tallies,
    cut_parts,
    failed_checks,
    merge_tables,
    part_digest,
    read_parquet,
    tally_part,
    to_table,
    write_parquet,
)
from ls_pipeline.domain.snapshot.splits import SplitRule
from ls_pipeline.domain.snapshot.tables import TABLES, table_rows
from tests.domain.snapshot.test_tables import KINDS, labeled

RULE = SplitRule()
WHOLE = Range(0, PART_TASKS - 1)
RESULTS = [result for result, _ in KINDS.values()]


def tables(completions, rule=RULE):
    rows = table_rows(completions, rule)
    return {name: to_table(name, rows[name]) for name in TABLES}


@pytest.mark.slow
@given(
    st.dictionaries(st.integers(0, 20), st.lists(st.sampled_from(RESULTS), max_size=2)),
    st.dictionaries(st.integers(0, 20), st.lists(st.sampled_from(RESULTS), max_size=2)),
)
def test_merged_part_equals_a_part_made_at_once(before, after):
    old = tables([labeled(number, some) for number, some in before.items()])
    changed = {number for number, some in after.items() if before.get(number) != some}
    gone = before.keys() - after.keys()
    new = tables([labeled(number, after[number]) for number in changed])
    whole = tables([labeled(number, some) for number, some in after.items()])

    for name in TABLES:
        kept = read_parquet(name, write_parquet(old[name]))
        stay = before.keys() - changed - gone
        merged = merge_tables(name, [kept], stay, [new[name]])
        assert write_parquet(merged) == write_parquet(whole[name])


CONTENTS = st.dictionaries(
    st.integers(0, 3 * PART_TASKS), st.sampled_from([0, 1, PART_BYTES // 3, 2 * PART_BYTES])
).map(lambda sizes: [Content(number, "d", sizes[number]) for number in sorted(sizes)])


@given(CONTENTS)
def test_parts_hold_all_tasks_and_are_small(contents):
    parts = list(cut_parts(contents))

    assert [item for _, some in parts for item in some] == contents
    assert all(ids.first <= item.task_id <= ids.last for ids, some in parts for item in some)
    assert all(sum(item.size for item in some) <= PART_BYTES or len(some) == 1 for _, some in parts)
    assert all(ids.last - ids.first < PART_TASKS for ids, _ in parts)


@given(CONTENTS, CONTENTS)
def test_change_elsewhere_cuts_no_other_part(contents, others):
    far = [item._replace(task_id=item.task_id + 4 * PART_TASKS) for item in others]

    assert list(cut_parts([*contents, *far]))[: len(list(cut_parts(contents)))] == list(
        cut_parts(contents)
    )


def row_groups(table):
    """Return the rows of each row group of a table's file."""
    metadata = pq.ParquetFile(pa.BufferReader(write_parquet(table))).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_row_groups_are_small_unless_a_row_is_not():
    text = "x" * (ROW_GROUP_BYTES // 8)
    huge = labeled(99, [], data={"text": 20 * text})
    texts = [labeled(number, [], data={"text": f"{number}{text}"}) for number in range(20)]
    groups = row_groups(tables([*texts, huge])["tasks"])

    assert (sum(groups), groups[-1], max(groups)) == (21, 1, 6)


def test_row_groups_have_limited_rows():
    row = tables([labeled(1, [])])["annotations"]
    assert row_groups(row.take([0] * (ROW_GROUP + 1))) == [
        ROW_GROUP // 2 + 1,
        ROW_GROUP // 2,
    ]


@pytest.mark.parametrize("other", [SplitRule(0.1, 0.2), SplitRule(0.2, 0.1)])
def test_other_shares_are_another_part(other):
    assert part_digest([(1, "a")], RULE) != part_digest([(1, "a")], other)


def test_sound_part_fails_no_check():
    assert failed_checks(WHOLE, tables([labeled(1, RESULTS), labeled(2, [], [])]), RULE) == {}


def test_failed_checks_of_a_part_are_named():
    sound = tables([labeled(1, RESULTS, RESULTS)])
    orphan = {**sound, "tasks": sound["tasks"].slice(0, 0)}
    lost = {**sound, "annotations": sound["annotations"].slice(0, 1)}
    twice = {**sound, "annotations": sound["annotations"].take([0, 0, 1])}
    other = {**sound, "tasks": sound["tasks"].drop_columns(["digest"])}

    assert "no_orphans" in failed_checks(WHOLE, orphan, RULE)
    assert "no_orphans" in failed_checks(WHOLE, lost, RULE)
    assert "no_orphans" in failed_checks(Range(1000, 2000), sound, RULE)
    assert "no_duplicates" in failed_checks(WHOLE, twice, RULE)
    assert "schema_as_declared" in failed_checks(WHOLE, other, RULE)


def test_row_in_the_wrong_split_is_found():
    all_to_test = SplitRule(0.0, 0.999)
    failed = failed_checks(WHOLE, tables([labeled(1, [])], SplitRule(0.999, 0.0)), all_to_test)

    assert failed.keys() == {"no_split_leak"}
    assert failed["no_split_leak"].startswith("s3://b/a is in another split")


def test_damaged_file_is_refused():
    with pytest.raises(SnapshotError, match="not Parquet"):
        read_parquet("tasks", b"PAR1")
    with pytest.raises(SnapshotError, match="another schema"):
        read_parquet("tasks", write_parquet(to_table("results", [])))


def test_tally_of_parts_adds_up_to_the_tally_of_all():
    some = [labeled(number, RESULTS[number : number + 3], RESULTS[:2]) for number in range(8)]
    parts = [tally_part(tables(some[:3])), tally_part(tables(some[3:]))]
    whole = tally_part(tables(some))

    rounded = add_tallies(parts).model_copy(update={"agreement": whole.agreement})

    assert rounded == whole
    assert add_tallies(parts).agreement == pytest.approx(whole.agreement)
    assert whole.labels["c"]["a"]
    assert add_tallies([]) == Tally()

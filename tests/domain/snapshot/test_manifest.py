import pytest

from ls_pipeline.domain.snapshot.manifest import expired, snapshot_name

DAY = 24 * 3600


def test_names_sort_by_number_and_differ_by_content():
    names = [snapshot_name(9, ["a"]), snapshot_name(10, ["a"]), snapshot_name(10, ["b"])]

    assert names[0] < names[1]
    assert names[1] != names[2]


@pytest.mark.parametrize(
    ("keep", "keep_days", "gone"),
    [(1, 0, ["1", "2", "3"]), (3, 0, ["1"]), (1, 2, ["1", "2"]), (9, 0, []), (1, 99, [])],
)
def test_retention_keeps_the_newest_and_the_young(keep, keep_days, gone):
    written = {str(number): 100 * DAY - (4 - number) * DAY for number in (1, 2, 3, 4)}

    assert expired(written, "4", 100 * DAY + 1, keep, keep_days) == gone


def test_retention_never_takes_the_latest():
    assert expired({"1": 0.0, "2": 0.0, "3": 0.0}, "1", 100 * DAY, 1, 0) == ["2"]

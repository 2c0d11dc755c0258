"""A pass notes where the next listing may be cut."""

from __future__ import annotations

from ls_pipeline.domain.changes import Change
from tests.assets.test_bugs_of_others import put


def test_milestones_follow_what_the_bucket_lists(bench):
    names = [f"{number:04}" for number in range(2100)]
    put(bench, *names)
    bench.load()
    first = bench.account.milestones()
    for name in names[:10]:
        bench.bucket.delete(name)
    changes = bench.load().changes

    assert first == names[998::999]
    assert bench.account.milestones() == names[1008::999]
    assert changes == {Change.UNCHANGED: 2090, Change.REMOVED: 10}


def test_small_bucket_has_no_milestones(bench):
    put(bench, "a", "b")
    bench.load()

    assert bench.account.milestones() == []

"""Each connection has its own result of a check, whatever runs of others do."""

import dagster as dg
import pytest

from tests.assets.test_settings import materialize
from tests.bench import Bench
from tests.engine.test_load import Wrapped
from tests.standalone import source_settings, tasks

QUARANTINE = dg.AssetCheckKey(dg.AssetKey("tasks"), "nothing_quarantined")


def results(instance):
    """Return whether the newest result of the check passed, by connection."""
    storage = instance.event_log_storage
    return {
        info.partition_key: info.latest_execution_status.value == "SUCCEEDED"
        for info in storage.get_asset_check_partition_info([QUARANTINE])
    }


@pytest.fixture
def benches(empty_ledger):
    """Return the benches of two connections; one has an object that is no task."""
    a1, a2 = Bench(empty_ledger, name="a1"), Bench(empty_ledger, name="a2")
    a1.time = a2.time
    a1.put("bad.json", b"not json")
    a2.put("good.json", {"text": "good"})
    return a1, a2


def test_passed_check_of_one_connection_hides_no_failed_one_of_another(benches, instance):
    for bench in benches:
        assert materialize(bench, instance, tasks, source_settings).success

    assert results(instance) == {"a1": False, "a2": True}


def test_runs_that_overlap_each_leave_their_results(benches, instance):
    a1, a2 = benches
    app = a1.app

    def load_the_other(*arguments, **options):
        materialize(a2, instance, tasks, source_settings)
        return app.register_storage(*arguments, **options)

    a1.app = Wrapped(app, register_storage=load_the_other)
    materialize(a1, instance, tasks, source_settings)

    assert results(instance) == {"a1": False, "a2": True}

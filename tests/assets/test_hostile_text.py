"""What strangers wrote reaches neither Dagster's logs nor its pages as control."""

import dagster as dg
import pytest

from ls_pipeline.assets.checks import snapshot_checks
from ls_pipeline.domain.errors import BucketUnavailableError
from ls_pipeline.domain.snapshot.manifest import Manifest, Tally
from ls_pipeline.domain.text import visible
from ls_pipeline.engine.snapshot import SnapshotResult
from ls_pipeline.settings.params import TargetParams
from tests.assets.test_metadata import tokens
from tests.assets.test_settings import Buckets, materialize
from tests.contracts.memory_bucket import MemoryBucket
from tests.domain.test_text import controls
from tests.standalone import source_settings, tasks

HOSTILE = "\x1b[2J![x](http://evil.example/p.png)<img src=x>\u202e\x9b"
SHOWN = visible(HOSTILE)


class FailingBucket(MemoryBucket):
    """Fails with a text that a server may have sent."""

    def __init__(self, error):
        super().__init__("bucket")
        self.error = error

    def pages(self, *_args):
        raise self.error from ValueError(HOSTILE)


def logged(instance, run_id):
    """Return all that Dagster writes to its log, with the errors' causes."""
    texts = []
    for entry in instance.all_logs(run_id):
        texts.append(entry.user_message)
        failure = entry.dagster_event and entry.dagster_event.event_specific_data
        error = getattr(failure, "error", None)
        while error:
            texts.append(error.to_string())
            error = error.cause or error.context
    return texts


@pytest.mark.parametrize(
    "error", [BucketUnavailableError("s3://bucket", HOSTILE), OSError(HOSTILE)]
)
def test_error_and_its_causes_control_no_log(bench, instance, error):
    buckets = Buckets(FailingBucket(error))
    done = materialize(
        bench, instance, tasks, source_settings, buckets=buckets, raise_on_error=False
    )
    texts = logged(instance, done.run_id)

    assert not done.success
    assert [text for text in texts if f"ValueError: {SHOWN}" in text]
    assert controls("".join(texts).replace("\n", "")) == []


def test_key_and_reason_are_plain_text_in_metadata_and_checks(bench, instance):
    bench.put(f"{HOSTILE}.json", b"not json")
    done = materialize(bench, instance, tasks, source_settings)
    (event,) = done.asset_materializations_for_node("tasks")
    (check,) = [each for each in done.get_asset_check_evaluations() if not each.passed]
    (record,) = event.metadata["quarantine"].records

    assert record.data["key"] == f"{SHOWN}.json"
    assert {kind for kind, _ in tokens(check.description)} == {"text", "code_inline"}
    assert ("code_inline", f"{SHOWN}.json") in tokens(check.description)
    assert controls("".join(logged(instance, done.run_id)).replace("\n", "")) == []
    assert not [
        value for value in event.metadata.values() if isinstance(value, dg.MarkdownMetadataValue)
    ]


def test_labels_and_objects_in_checks_are_shown_as_they_are():
    label = Manifest.model_construct(tally=Tally(labels={"c": {HOSTILE: {"train": 1}}}))
    new = Manifest.model_construct(tally=Tally())
    result = SnapshotResult(manifest=new, before=label, failed={"no_split_leak": HOSTILE})
    checks = snapshot_checks("reviews", result, TargetParams(), [HOSTILE])
    shown = {check.check_name: list(tokens(check.description)) for check in checks}

    for name, text in {
        "no_split_leak": SHOWN,
        "no_class_vanished": f"{SHOWN} (c)",
        "target_complete": SHOWN,
    }.items():
        assert ("code_inline", text) in shown[name]
        assert {kind for kind, _ in shown[name]} == {"text", "code_inline"}

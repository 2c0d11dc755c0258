"""Training data in Dagster, in the bucket, and from `ls-pipeline export`."""

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import dagster as dg
import pytest

from ls_pipeline.cli.demo import samples
from ls_pipeline.domain.snapshot.manifest import Latest

pytestmark = pytest.mark.server


@pytest.fixture
def instance(stage):
    """Return a function that opens the instance in which `sync` records its runs."""
    opened = []

    def open_instance():
        opened.append(
            dg.DagsterInstance.from_config(str(Path(os.environ["LS_PIPELINE_HOME"], "dagster")))
        )
        return opened[-1]

    yield open_instance
    for instance in opened:
        instance.dispose()


def test_snapshot_is_charted_checked_and_converted(stage, instance):
    source, target = stage.s3("in"), stage.s3("out")
    for key, body in samples.texts(6):
        source.put(key, body, "application/json")
    stage.add(
        "reviews",
        samples.TEXT_CONFIG,
        source,
        target,
        None,
        {"prefix": "labels", "formats": ["CSV", "COCO"]},
    )
    stage.sync()
    stage.label_all("reviews")
    stage.sync()
    events = instance()
    materialization = events.get_latest_materialization_event(dg.AssetKey("training_data"))
    metadata = materialization.asset_materialization.metadata
    checks = {
        record.key.name: record.event.asset_check_evaluation
        for record in events.event_log_storage.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(dg.AssetKey("training_data"), name) for name in CHECKS]
        ).values()
    }

    assert metadata["labels"].value.startswith("![labels by split](data:image/svg+xml;base64,")
    assert metadata["results_rows"].value == 6
    assert {name: check.passed for name, check in checks.items()} == dict.fromkeys(CHECKS, True)
    assert (
        "COCO can't represent the labels of this label config"
        in metadata["formats"].records[1].data["outcome"]
    )

    latest = Latest.model_validate_json(target.get("labels/training_data/latest.json"))
    archive = target.get(f"labels/training_data/formats/{latest.snapshot}/CSV.zip")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        rows = list(csv.DictReader(files.read("result.csv").decode().splitlines()))
    assert len(rows) == 6

    stage.run("export", "reviews", "--format", "JSON_MIN", "--output", "min")
    assert len(json.loads((stage.folder / "min/result.json").read_text())) == 6


CHECKS = (
    "rows_as_exported",
    "no_orphans",
    "no_duplicates",
    "schema_as_declared",
    "no_split_leak",
    "no_content_leak",
    "no_class_vanished",
    "formats_complete",
    "few_skipped",
    "annotators_agree",
)


def test_pictures_are_exported_with_their_boxes(stage):
    source = stage.gcs("in")
    pictures = dict(samples.pictures(2))
    for key, body in pictures.items():
        source.put(key, body, "image/png")
    stage.add("shapes", samples.PICTURE_CONFIG, source, stage.gcs("out"), {"use_blob_urls": True})
    stage.sync()
    stage.label_all("shapes")
    stage.sync()
    stage.run("export", "shapes", "--format", "COCO", "--images", "--output", "coco")
    coco = json.loads((stage.folder / "coco/result.json").read_text())
    images = {(stage.folder / "coco" / image["file_name"]).read_bytes() for image in coco["images"]}

    assert images == set(pictures.values())
    assert {annotation["image_id"] for annotation in coco["annotations"]} == {0, 1}

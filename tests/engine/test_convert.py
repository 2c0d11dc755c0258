import io
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
import soundfile

from ls_pipeline.assets.checks import formats_complete
from ls_pipeline.domain.converters.lost import Report
from ls_pipeline.engine.convert import Conversion, convert_snapshot
from ls_pipeline.resources.snapshots import Snapshots
from tests.bench import RESULT, Bench

RELATION = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}


@pytest.fixture
def labeled(tmp_path):
    """Return a bench with a task that two people labeled, one of them with a relation."""
    bench = Bench(f"sqlite:///{tmp_path}/ledger.db")
    bench.fill(["a"], [])
    bench.app.annotate(bench.task_id("a.json"), [*RESULT, RELATION])
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    yield bench
    bench.ledger.close()


def converted(bench, *names, annotations="all", measure=None):
    snapshots = Snapshots(bench.target, "")
    manifest = bench.snapshot().newest
    bucket = bench.target
    return manifest, convert_snapshot(bucket, snapshots, manifest, names, annotations, measure)


def test_losses_are_in_the_archive_and_next_to_it(labeled):
    manifest, conversions = converted(labeled, "CSV", "COCO")
    root = f"training_data/formats/{manifest.snapshot}"
    lost = labeled.target.get(f"{root}/CSV.lost.json")

    assert (conversions["CSV"].report.lost, conversions["CSV"].report.results) == (1, 3)
    assert (conversions["COCO"].report, "can't represent" in conversions["COCO"].outcome) == (
        None,
        True,
    )
    assert [item["kind"] for item in json.loads(lost)["items"]] == ["relation"]
    with zipfile.ZipFile(io.BytesIO(labeled.target.get(f"{root}/CSV.zip"))) as archive:
        assert archive.read("lost.json") == lost


def test_losses_of_an_archive_that_exists_are_read(labeled):
    first, again = converted(labeled, "CSV")[1], converted(labeled, "CSV")[1]

    assert first == again


@pytest.mark.parametrize("body", [b"", b"[]", b'{"results": "x",\n "items": []}', b"\xff" * 99])
def test_losses_that_someone_else_wrote_stop_no_run(labeled, body):
    manifest, _ = converted(labeled, "CSV")
    key = f"training_data/formats/{manifest.snapshot}/CSV.lost.json"
    labeled.target.put(key, body, "application/json")

    assert converted(labeled, "CSV")[1]["CSV"].report == Report()


def test_each_choice_of_annotations_has_its_archive(labeled):
    _, everyone = converted(labeled, "CSV")
    _, latest = converted(labeled, "CSV", annotations="latest")

    assert everyone["CSV"].outcome != latest["CSV"].outcome
    assert (latest["CSV"].report.lost, latest["CSV"].report.not_chosen) == (0, 1)


def test_recordings_are_read_for_their_durations(labeled):
    def measure(uri, file):
        uris.append(uri)
        soundfile.write(file, np.zeros(4000), 8000)
        return True

    uris = []
    config = """<View><Audio name="a" value="$text"/><TextArea name="c" toName="a"/></View>"""
    labeled.app.projects[1] = ("Reviews", config)
    labeled.put("a.json", {"text": "a"})
    labeled.put("sound.json", {"text": "s3://b/x.wav"})
    labeled.load()
    said = {"from_name": "c", "to_name": "a", "type": "textarea", "value": {"text": ["hello"]}}
    labeled.app.annotate(labeled.task_id("sound.json"), [said])
    labeled.export()
    manifest, _ = converted(labeled, "ASR_MANIFEST", measure=measure)
    key = f"training_data/formats/{manifest.snapshot}/ASR_MANIFEST.zip"
    with zipfile.ZipFile(io.BytesIO(labeled.target.get(key))) as archive:
        lines = [json.loads(line) for line in archive.read("manifest.json").splitlines()]

    assert uris == ["s3://b/x.wav"]
    assert [(line["duration"], line["text"]) for line in lines if line["duration"]] == [
        (0.5, "hello")
    ]


@pytest.mark.parametrize(("strict", "severity"), [(False, "WARN"), (True, "ERROR")])
def test_check_of_formats_fails_as_the_target_says(strict, severity):
    lossy = {
        "CSV": Conversion(
            "s3://b/CSV.zip", Report(results=3, lost=1, reasons=Counter(["it is a relation"]))
        )
    }
    check = formats_complete("reviews", lossy, strict=strict)
    passed = formats_complete("reviews", {"JSON": Conversion("", Report())}, strict=strict)

    assert (check.passed, check.severity.value) == (False, severity)
    assert "1 of 3 results are not in it" in check.description
    assert passed.passed


def test_class_list_is_kept_by_later_snapshots(labeled):
    config = """<View><Text name="t" value="$text"/><Image name="i" value="$text"/>
    <RectangleLabels name="b" toName="i">{}</RectangleLabels></View>"""
    lists = []
    for labels in (["x", "y"], ["z", "y", "x"]):
        options = "".join(f'<Label value="{label}"/>' for label in labels)
        labeled.app.projects[1] = ("Reviews", config.format(options))
        labeled.app.annotate(labeled.task_id("a.json"), RESULT)
        labeled.export()
        lists.append(labeled.snapshot().newest.classes)

    assert lists == [["x", "y"], ["x", "y", "z"]]

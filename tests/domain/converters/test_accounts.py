"""Each result is in the output or in ``lost.json``, also of tasks that programs made carelessly."""

import io
import json
import math
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ls_pipeline.domain.converters.geometry import filled_area
from ls_pipeline.resources.converter import convert
from tests.domain.converters.annotated import BOXES, SHAPES, pack, task
from tests.domain.converters.test_kinds import (
    KEY_POINTS,
    box,
    coco,
    lost,
    point,
    result,
    yolo,
)

SPANS = """<View><Text name="t" value="$text"/><Text name="u" value="$other"/>
<Labels name="l" toName="t"><Label value="P"/></Labels>
<Labels name="m" toName="u"><Label value="Q"/></Labels></View>"""
SOUNDS = """<View><Audio name="a" value="$audio"/><TextArea name="tx" toName="a"/>
<Labels name="l" toName="a"><Label value="P"/></Labels></View>"""

PERCENT = st.sampled_from([-10, 0, 0.5, 30, 60, 99, 140, 1e9, 1e308])
SIDE = st.sampled_from([0, 5, -5, 30, 200, 1e16])
BOX = st.fixed_dictionaries(
    {"x": PERCENT, "y": PERCENT, "width": SIDE, "height": SIDE},
    optional={"rotation": st.sampled_from([0, 45, -90, 720, 1e300])},
)
ROUND = st.fixed_dictionaries({"x": PERCENT, "y": PERCENT, "radiusX": SIDE, "radiusY": SIDE})
CORNER = st.tuples(PERCENT, PERCENT).map(list)
OUTLINE = st.fixed_dictionaries({"points": st.lists(CORNER, max_size=5)})
FORMS = [("rectanglelabels", BOX), ("ellipselabels", ROUND), ("polygonlabels", OUTLINE)]
NAMES = {"rectanglelabels": "box", "ellipselabels": "round", "polygonlabels": "area"}
LABELS = st.lists(st.sampled_from(["car", "top", "new", " "]), max_size=2)
SHAPE = st.sampled_from(FORMS).flatmap(
    lambda form: st.builds(
        lambda id_, value, labels: result(
            form[0], NAMES[form[0]], {**value, form[0]: labels}, id=id_
        ),
        st.sampled_from(["1", "1", "2", None]),
        form[1],
        LABELS,
    )
)


def objects_of(name, folder):
    """Return the number of objects that a reader finds."""
    if name == "COCO":
        return len(json.loads((folder / "result.json").read_text())["annotations"])
    if name == "VOC":
        files = (folder / "Annotations").glob("*.xml")
        return sum(len(ET.parse(file).findall("object")) for file in files)  # noqa: S314
    return sum(len(file.read_text().splitlines()) for file in (folder / "labels").glob("*.txt"))


@pytest.mark.parametrize("name", ["COCO", "YOLO", "YOLO_OBB", "VOC"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(results=st.lists(SHAPE, max_size=4), size=st.sampled_from([(200, 100), (None, 0)]))
def test_each_shape_is_written_or_listed(name, results, size):
    for each in results:
        each["original_width"], each["original_height"] = size
    with tempfile.TemporaryDirectory() as folder:
        convert([task(1, results)], SHAPES, name, Path(folder))
        gone = {each["number"] for each in lost(Path(folder)) if each["what"] == "lost"}
        found = objects_of(name, Path(folder))
    kept = set()
    for number, each in enumerate(results):
        value = {key: item for key, item in each["value"].items() if key != each["type"]}
        labels = {label for label in each["value"][each["type"]] if label.strip()}
        if number not in gone:
            owner = each["id"] or number
            place = json.dumps({**value, "rotation": value.get("rotation", 0)})
            kept |= {(owner, place, label) for label in labels}

    assert found == len(kept)


def test_regions_with_one_id_are_apart(tmp_path):
    other = box("b", "a bus")
    other["value"].update(x=60)
    said = result("choices", "state", {**other["value"], "choices": ["new"]}, id="b")
    found, report = coco(tmp_path, [task(1, [box("b"), other, said])], BOXES)

    assert [item["bbox"][0] for item in found["annotations"]] == [20, 120]
    assert [item.get("attributes") for item in found["annotations"]] == [None, {"state": "new"}]
    assert report.is_complete


def test_all_that_is_said_about_a_region_is_kept(tmp_path):
    said = [result("choices", "state", {"choices": [each]}, id="b") for each in ("new", "wet")]
    noted = box("b", meta={"text": ["blurred"]})
    found, _ = coco(tmp_path / "coco", [task(1, [noted, *said])], BOXES)
    _, report = yolo(tmp_path / "yolo", [task(1, [noted, *said])], BOXES)

    assert found["annotations"][0]["attributes"] == {"state": ["new", "wet"]}
    assert found["annotations"][0]["notes"] == ["blurred"]
    assert (report.lost, report.simplified) == (2, 1)


def test_marks_of_a_picture_have_one_size(tmp_path):
    other = box("c", original_width=400, original_height=400)
    found, report = coco(tmp_path, [task(1, [box("b"), other])], BOXES)

    assert [item["bbox"] for item in found["annotations"]] == [[20, 20, 60, 40]] * 2
    assert report.reasons == {"it was drawn on a picture of another form": 1}


def test_size_of_the_file_that_is_there_decides(tmp_path):
    def fetch(uri, file):
        Image.new("L", (20, 10)).save(file)
        return True

    found, report = coco(tmp_path, [task(1, [box()])], BOXES, fetch=fetch)

    assert found["images"][0]["width"] == 20
    assert found["annotations"][0]["bbox"] == [2, 2, 6, 4]
    assert report.is_complete


def test_relations_of_lost_key_points_are_listed(tmp_path):
    config = KEY_POINTS.replace("Rectangle", "Nothing")
    relation = {"type": "relation", "from_id": "n", "to_id": "t"}
    unknown = [point("nose", 20, 30, id="n"), point("ear", 30, 40, id="t"), relation]
    _, report = coco(tmp_path / "coco", [task(1, unknown)], config)
    outside = [point("nose", 200, 30, id="n"), point("tail", 300, 40, id="t"), relation]
    _, other = yolo(tmp_path / "yolo", [task(1, outside)], config)

    assert (report.lost, other.lost) == (2, 3)


def test_crossing_outline_is_kept(tmp_path):
    eight = {"points": [[0, 0], [50, 50], [50, 0], [0, 50]], "polygonlabels": ["top"]}
    lines, report = yolo(tmp_path, [task(1, [result("polygonlabels", "area", eight)])], SHAPES)

    assert lines["1-1"] == ["3 0 0 0.5 0.5 0.5 0 0 0.5"]
    assert report.is_complete


@given(st.lists(st.tuples(*[st.integers(0, 100)] * 2).map(list), min_size=3, max_size=8))
def test_area_of_crossing_outlines_is_what_readers_fill(points):
    pixels = [(x * 20.0, y * 20.0) for x, y in points]
    flat = [number for point in pixels for number in point]
    (mask,) = pycocotools.mask.frPyObjects([flat], 2000, 2000)
    length = sum(math.dist(*ends) for ends in zip(pixels, [*pixels[1:], pixels[0]], strict=True))

    assert abs(filled_area(pixels) - pycocotools.mask.area(mask)) <= length + len(points)


@pytest.mark.parametrize("id_", [None, [1], 7])
def test_annotations_without_ids_of_their_own_lose_nothing(tmp_path, id_):
    document = task(1, [box("b"), {"type": "relation"}])
    document["annotations"] = [{**document["annotations"][0], "id": id_} for _ in range(2)]
    lines, report = yolo(tmp_path, [document], BOXES)

    assert sum(map(len, lines.values())) == 2
    assert report.lost == 2


@pytest.mark.parametrize("name", ["COCO", "YOLO", "VOC", "BRUSH_TO_PNG"])
def test_long_names_of_any_script_fit_a_file_name(tmp_path, name):
    long = "\U00020000" * 90
    mask = {"rle": pack(np.ones((100, 200), np.uint8), runs=True), "brushlabels": [long]}
    document = task(10**9, [result("brushlabels", "brush", mask)], completed_by={"email": long})
    document["data"] = {"image": f"s3://b/{long}.png"}

    def fetch(uri, file):
        stream = io.BytesIO()
        Image.new("L", (200, 100)).save(stream, "PNG")
        return bool(file.write_bytes(stream.getvalue()))

    report = convert([document, document], SHAPES, name, tmp_path, fetch=fetch)

    assert report.lost == 0


@pytest.mark.parametrize("rle", [10**12, "x", {"0": 1}, [256], [1.5]])
def test_mask_that_is_no_list_of_bytes_is_lost(tmp_path, rle):
    value = {"rle": rle, "brushlabels": ["car"]}
    _, report = coco(tmp_path, [task(1, [result("brushlabels", "brush", value)])], SHAPES)

    assert report.reasons == {"its mask is damaged": 1}


def test_spans_that_can_not_be_placed_are_listed(tmp_path):
    def span(from_name, to_name, start, end, label):
        value = {"start": start, "end": end, "labels": [label]}
        return {"type": "labels", "from_name": from_name, "to_name": to_name, "value": value}

    results = [span("l", "u", 0, 4, "P"), span("m", "u", 0, 4, " "), span("l", "t", 5, 99, "P")]
    document = {**task(1, results), "data": {"text": "Anna sings", "other": "Anna sings"}}
    report = convert([document], SPANS, "CONLL2003", tmp_path)

    assert report.reasons == {
        "it is not a span of a text": 1,
        "it has no label": 1,
        "its end is after the end of its text": 1,
    }


def test_parts_of_a_recording_with_one_id_are_apart(tmp_path):
    def part(start, end, **more):
        value = {"start": start, "end": end, "labels": ["P"], **more}
        return {"id": "1", "type": "labels", "from_name": "l", "to_name": "a", "value": value}

    text = {"id": "1", "type": "textarea", "from_name": "tx", "to_name": "a"}
    texts = [
        {**text, "value": {"start": 2, "end": 3, "text": ["hi"]}},
        {**text, "value": {"start": 2, "end": 3, "text": [5]}},
    ]
    document = {**task(1, [part(0, 1), part(2, 3, channel=1), *texts])}
    document["data"] = {"audio": "s3://b/x.wav"}
    report = convert([document], SOUNDS, "ASR_MANIFEST", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "manifest.json").read_text().splitlines()]

    assert [(each["offset"], each["text"], each.get("channel")) for each in lines] == [
        (0, "", None),
        (2, "hi", 1),
    ]
    assert report.reasons == {"it is no text of a recording": 1}


def test_choice_of_one_picture_among_several_says_which(tmp_path):
    config = """<View><Image name="i" valueList="$images"/>
    <Choices name="c" toName="i" perItem="true"><Choice value="a"/></Choices></View>"""
    results = [
        {"type": "choices", "from_name": "c", "to_name": "i", "item_index": number, "value": value}
        for number, value in enumerate([{"choices": ["a"]}, {"choices": ["b"]}])
    ]
    convert([task(1, results)], config, "JSON_MIN", tmp_path)
    (row,) = json.loads((tmp_path / "result.json").read_text())

    assert row["c"] == [
        {"choices": ["a"], "item_index": 0},
        {"choices": ["b"], "item_index": 1},
    ]

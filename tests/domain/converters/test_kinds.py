"""The kinds of annotations that converters of others lose or swap, each as a small case."""

import json
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image

from ls_pipeline.domain.converters.shown import class_list
from ls_pipeline.resources.converter import convert, supported_formats
from tests.domain.converters.annotated import BOXES, task

KEY_POINTS = """<View><Image name="i" value="$image"/>
<RectangleLabels name="box" toName="i"><Label value="person"/></RectangleLabels>
<KeyPointLabels name="kp" toName="i"><Label value="tail" model_index="1"/>
<Label value="nose" model_index="0"/></KeyPointLabels></View>"""
NO_SIZE = {"original_width": None, "original_height": None}


def box(id_="b", label="car", **more):
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": [label]}
    return result("rectanglelabels", "box", value, id=id_) | more


def result(type_, from_name, value, **more):
    sizes = {"original_width": 200, "original_height": 100}
    names = {"type": type_, "from_name": from_name, "to_name": "i"}
    return {"id": "r", **names, **sizes, "value": value} | more


def point(name, x, y, **more):
    value = {"x": x, "y": y, "width": 1, "keypointlabels": [name]}
    return result("keypointlabels", "kp", value, **more)


def coco(folder, documents, config, **options):
    report = convert(documents, config, "COCO", folder, **options)
    return json.loads((folder / "result.json").read_text()), report


def yolo(folder, documents, config, name="YOLO", **options):
    """Return the lines of each label file, and the report."""
    report = convert(documents, config, name, folder, **options)
    files = sorted((folder / "labels").rglob("*.txt"))
    return {file.stem: file.read_text().splitlines() for file in files}, report


def lost(folder):
    return json.loads((folder / "lost.json").read_text())["items"]


def test_labels_with_shapes_are_as_shapes_with_labels(tmp_path):
    config = """<View><Image name="i" value="$image"/><Labels name="kind" toName="i">
    <Label value="roof"/><Label value="door"/></Labels><Polygon name="shape" toName="i"/>
    <Rectangle name="rect" toName="i"/></View>"""
    points = {"points": [[10, 10], [40, 10], [40, 40]], "closed": True}
    sides = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 0}
    results = [
        result("polygon", "shape", points, id="p"),
        result("labels", "kind", {**points, "labels": ["roof"]}, id="p"),
        result("labels", "kind", {**sides, "labels": ["door"]}, id="q"),
        result("rectangle", "rect", sides, id="q"),
    ]
    found, report = coco(tmp_path / "coco", [task(1, results)], config)
    lines, _ = yolo(tmp_path / "yolo", [task(1, results)], config)
    (tmp_path / "voc").mkdir()
    convert([task(1, results)], config, "VOC", tmp_path / "voc")

    assert [item["bbox"] for item in found["annotations"]] == [[20, 10, 60, 30], [100, 50, 20, 20]]
    assert [item["category_id"] for item in found["annotations"]] == [1, 2]
    assert lines == {"1-1": ["0 0.1 0.1 0.4 0.1 0.4 0.4", "1 0.5 0.5 0.6 0.5 0.6 0.7 0.5 0.7"]}
    assert (tmp_path / "voc/Annotations/1-1.xml").read_text().count("<object>") == 2
    assert report.is_complete


def test_pictures_of_a_list_and_of_a_repeater_have_their_own_marks(tmp_path):
    listed = BOXES.replace('value="$image"', 'valueList="$pages"')
    several = {**task(1, [box("a", item_index=1), box("b", item_index=0)])}
    several["data"] = {"pages": ["s3://b/x.png", "s3://c/x.png"]}
    lines, _ = yolo(tmp_path / "list", [several], listed)

    assert {name: len(found) for name, found in lines.items()} == {"1-0-x": 1, "1-1-x": 1}

    repeated = """<View><Repeater on="$pages" indexFlag="{{idx}}"><Image name="i_{{idx}}"
    value="$pages[{{idx}}].url"/><RectangleLabels name="box_{{idx}}" toName="i_{{idx}}">
    <Label value="car"/></RectangleLabels></Repeater></View>"""
    document = task(2, [box("a", from_name="box_1", to_name="i_1")])
    document["data"] = {"pages": [{"url": "s3://b/x.png"}, {"url": "s3://c/x.png"}]}
    found, report = coco(tmp_path / "repeater", [document], repeated)

    assert [item["file_name"] for item in found["images"]] == ["s3://b/x.png", "s3://c/x.png"]
    assert [item["image_id"] for item in found["annotations"]] == [1]
    assert report.is_complete


def test_box_of_an_earlier_label_config_is_kept(tmp_path):
    renamed, other = box("a", to_name="old", from_name="old"), box("b", to_name="t")
    config = BOXES.replace("</View>", '<Text name="t" value="$image"/></View>')
    found, report = coco(tmp_path, [task(1, [renamed, other])], config)

    assert [item["result_id"] for item in found["annotations"]] == ["a"]
    assert report.reasons == {"it is not a region of a picture": 1}


def test_picture_without_marks_is_kept_and_a_skipped_one_is_not(tmp_path):
    skipped = task(3, [], was_cancelled=True)
    found, report = coco(tmp_path / "coco", [task(1, [box()]), task(2, []), skipped], BOXES)
    lines, _ = yolo(tmp_path / "yolo", [task(1, [box()]), task(2, []), skipped], BOXES)

    assert [item["task_id"] for item in found["images"]] == [1, 2]
    assert (lines["2-2"], "3-3" in lines) == ([], False)
    assert (report.tasks, report.skipped) == (2, 1)


def test_picture_of_several_people_is_one_image_with_all_marks(tmp_path):
    document = task(1, [box()])
    second = {**document["annotations"][0], "id": 99, "completed_by": 2}
    document["annotations"].append(second)
    found, _ = coco(tmp_path / "coco", [document], BOXES)
    lines, _ = yolo(tmp_path / "yolo", [document], BOXES)

    assert len(found["images"]) == 1
    assert [item["completed_by"] for item in found["annotations"]] == [1, 2]
    assert {name: len(found) for name, found in lines.items()} == {"1-11-1": 1, "1-99-1": 1}


def test_key_points_belong_to_their_box(tmp_path):
    results = [
        point("tail", 30, 40, id="t", parentID="b"),
        box(label="person"),
        point("nose", 20, 30, id="n", parentID="b"),
        point("nose", 90, 90, id="alone"),
        {"type": "relation", "from_id": "t", "to_id": "n", "direction": "right"},
    ]
    found, report = coco(tmp_path / "coco", [task(1, results)], KEY_POINTS)
    lines, _ = yolo(tmp_path / "yolo", [task(1, results)], KEY_POINTS)
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())

    assert found["categories"][0]["keypoints"] == ["nose", "tail"]
    assert found["categories"][0]["skeleton"] == [[1, 2]]
    assert found["annotations"][0]["keypoints"] == [40, 30, 2, 60, 40, 2]
    assert found["annotations"][0]["num_keypoints"] == 2
    assert lines["1-1"] == ["0 0.25 0.4 0.3 0.4 0.2 0.3 2 0.3 0.4 2"]
    assert (names["kpt_shape"], names["names"]) == ([2, 3], {0: "person"})
    assert [item["result"] for item in lost(tmp_path / "coco")] == ["alone"]
    assert [item["kind"] for item in lost(tmp_path / "yolo")] == ["keypointlabels", "relation"]
    assert report.lost == 1


def test_key_points_alone_are_one_object_of_their_control(tmp_path):
    config = KEY_POINTS.replace("Rectangle", "Nothing")
    results = [point("nose", 20, 30, id="1"), point("tail", 30, 40, id="2")]
    found, report = coco(tmp_path, [task(1, [*results, point("nose", 60, 60, id="3")])], config)

    assert [item["name"] for item in found["categories"]] == ["kp"]
    assert [item["keypoints"] for item in found["annotations"]] == [
        [40, 30, 2, 60, 40, 2],
        [120, 60, 2, 0, 0, 0],
    ]
    assert report.is_complete


def test_what_is_lost_is_listed_once_with_its_place(tmp_path):
    relation = {"type": "relation", "from_id": "b", "to_id": "c", "direction": "right"}
    said = result("choices", "state", {"choices": ["new"]}, id="b")
    results = [box("b"), said, box("c", **NO_SIZE), relation, box("d", label="")]
    for item in results[-1:]:
        item["value"]["rectanglelabels"] = []
    _, report = yolo(tmp_path, [task(1, results)], BOXES)

    assert sorted((item["number"], item["kind"]) for item in lost(tmp_path)) == [
        (1, "choices"),
        (3, "relation"),
        (4, "rectanglelabels"),
    ]
    assert {(item["task"], item["annotation"]) for item in lost(tmp_path)} == {(1, 11)}
    assert (report.results, report.lost, report.simplified) == (5, 3, 0)
    assert "3 of 5 results are not in it" in report.sentence


def test_coco_keeps_what_is_said_about_a_region(tmp_path):
    said = result("choices", "state", {"choices": ["new"]}, id="b")
    found, report = coco(tmp_path, [task(1, [box(), said])], BOXES)

    assert found["annotations"][0]["attributes"] == {"state": "new"}
    assert report.is_complete


def test_class_keeps_its_index_and_a_new_one_gets_the_next():
    first = class_list(BOXES, {})
    more = BOXES.replace('<Label value="car"', '<Label value="tram"/><Label value="car"')
    second = class_list(more, {"box": {"van": {}}, "other": {"x": {}}}, first)

    assert first == ["car", "a bus"]
    assert second == ["car", "a bus", "tram", "van"]
    assert class_list("<View/>", {}, second) == second


def test_classes_are_those_of_the_snapshot_in_all_formats(tmp_path):
    classes = ["old", "a bus", "car"]
    found, _ = coco(tmp_path / "coco", [task(1, [box()])], BOXES, classes=classes)
    lines, _ = yolo(tmp_path / "yolo", [task(1, [box()])], BOXES, classes=classes)

    assert [item["name"] for item in found["categories"]] == classes
    assert (found["annotations"][0]["category_id"], lines["1-1"][0][0]) == (3, "2")
    assert (tmp_path / "yolo/classes.txt").read_text().splitlines() == classes


@pytest.mark.parametrize("name", ["COCO", "VOC", "YOLO"])
def test_environment_changes_no_file(tmp_path, environment, name):
    convert([task(1, [box()])], BOXES, name, tmp_path / "without")
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    environment.setenv("LABEL_STUDIO_API_KEY", "key")
    convert([task(1, [box()])], BOXES, name, tmp_path / "with")
    bodies = [
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}
        for folder in (tmp_path / "without", tmp_path / "with")
    ]

    assert bodies[0] == bodies[1]


def test_picture_is_written_as_the_annotator_saw_it(tmp_path):
    stored = Image.fromarray(np.zeros((100, 200, 3), np.uint8))
    stored.paste((255, 0, 0), (0, 0, 100, 50))  # top left; shown, it is at the top right
    exif = Image.Exif()
    exif[0x0112] = 6

    def fetch(uri, file):
        stored.save(file, "JPEG", exif=exif)
        return True

    document = task(1, [box(original_width=100, original_height=200)])
    document["data"]["image"] = "s3://b/p.jpg"
    found, _ = coco(tmp_path, [document], BOXES, fetch=fetch)
    (image,) = found["images"]

    assert (image["width"], image["height"]) == (100, 200)
    with Image.open(tmp_path / image["file_name"]) as picture:
        assert picture.size == (100, 200)
        assert picture.getexif().get(0x0112, 1) == 1
        assert picture.getpixel((90, 10))[0] > 200


def test_file_that_is_no_picture_stays_as_it_is(tmp_path):
    def fetch(uri, file):
        return bool(file.write_bytes(b"no picture"))

    found, report = coco(tmp_path, [task(1, [box()]), task(2, [])], BOXES, fetch=fetch)

    assert [item.get("width") for item in found["images"]] == [200, None]
    assert {file.read_bytes() for file in (tmp_path / "images").iterdir()} == {b"no picture"}
    assert report.is_complete


def test_size_of_a_picture_without_marks_is_that_of_its_file(tmp_path):
    def fetch(uri, file):
        Image.new("L", (30, 20)).save(file)
        return True

    found, _ = coco(tmp_path, [task(1, [])], BOXES, fetch=fetch)

    assert (found["images"][0]["width"], found["images"][0]["height"]) == (30, 20)


def test_box_over_the_edge_is_cut_in_yolo_and_voc(tmp_path):
    wide = box()
    wide["value"].update(x=90, width=20)
    outside = box("o")
    outside["value"].update(x=101)
    lines, report = yolo(tmp_path, [task(1, [wide, outside])], BOXES)

    assert lines["1-1"] == ["0 0.95 0.4 0.1 0.4"]
    assert (report.lost, report.simplified) == (1, 1)


def test_formats_that_fit_depend_on_the_controls():
    assert {"COCO", "YOLO"} <= set(supported_formats(KEY_POINTS.replace("Rectangle", "Nothing")))
    assert "VOC" not in supported_formats(KEY_POINTS.replace("Rectangle", "Nothing"))
    counts = Counter(supported_formats("<View/>"))
    assert counts == Counter(["JSON", "JSON_MIN", "CSV", "TSV"])

import csv
import json

import pytest

from ls_pipeline.domain.errors import FormatError
from ls_pipeline.domain.snapshot.formats import FORMATS
from ls_pipeline.resources.converter import convert, supported_formats

pytestmark = pytest.mark.slow

BOXES = """<View><Image name="i" value="$image"/><RectangleLabels name="b" toName="i">
<Label value="car"/><Label value="bus"/></RectangleLabels></View>"""
SPANS = """<View><Text name="t" value="$text"/><Labels name="l" toName="t">
<Label value="PER"/></Labels></View>"""


def picture(number, image, *labels):
    result = [
        {
            "id": f"r{number}",
            "type": "rectanglelabels",
            "from_name": "b",
            "to_name": "i",
            "original_width": 100,
            "original_height": 50,
            "value": {
                "x": 10,
                "y": 20,
                "width": 30,
                "height": 40,
                "rotation": 0,
                "rectanglelabels": [label],
            },
        }
        for label in labels
    ]
    annotation = {"id": number, "result": result, "was_cancelled": False, "completed_by": 1}
    return {"id": number, "data": {"image": image}, "annotations": [annotation]}


PICTURES = [
    picture(1, "s3://bucket/a/x.png", "car"),
    picture(2, "s3://bucket/b/x.png", "bus", "car"),
]


def files(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_formats_exist_in_the_converter():
    from label_studio_sdk.converter.converter import Format

    assert set(FORMATS) <= {item.name for item in Format}


def test_coco_names_images_by_uri_and_keeps_boxes(tmp_path):
    convert(PICTURES, BOXES, "COCO", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    names = {item["id"]: item["name"] for item in result["categories"]}

    assert [item["file_name"] for item in result["images"]] == [
        "s3://bucket/a/x.png",
        "s3://bucket/b/x.png",
    ]
    assert [names[item["category_id"]] for item in result["annotations"]] == ["car", "bus", "car"]
    assert result["annotations"][0]["bbox"] == [10.0, 10.0, 30.0, 20.0]


@pytest.mark.parametrize(
    ("name", "folder", "ending"), [("YOLO", "labels", "txt"), ("VOC", "Annotations", "xml")]
)
def test_equal_image_names_in_two_folders_stay_separate(tmp_path, name, folder, ending):
    convert(PICTURES, BOXES, name, tmp_path)

    assert {f"{folder}/1-x.{ending}", f"{folder}/2-x.{ending}"} <= files(tmp_path).keys()


@pytest.mark.parametrize("name", ["YOLO", "VOC"])
def test_each_annotation_of_an_image_has_its_file(tmp_path, name):
    first, second = picture(1, "s3://bucket/a/x.png", "car"), picture(2, "", "bus")
    both = {**first, "annotations": first["annotations"] + second["annotations"]}
    convert([both], BOXES, name, tmp_path)
    bodies = [body for path, body in files(tmp_path).items() if "1-1-x" in path or "1-2-x" in path]

    assert len(bodies) == len(set(bodies)) == 2


def test_equal_image_names_in_one_task_stay_separate(tmp_path):
    config = BOXES.replace("</View>", '<Image name="j" value="$before"/></View>')
    task = picture(1, "s3://bucket/new/x.png", "car")
    task["data"]["before"] = "s3://bucket/old/x.png"
    convert([task], config, "JSON", tmp_path, lambda uri, file: file.write_text(uri))

    assert {body.decode() for path, body in files(tmp_path).items() if path != "result.json"} == {
        "s3://bucket/new/x.png",
        "s3://bucket/old/x.png",
    }


def test_carriage_returns_in_text_are_kept(tmp_path):
    annotation = {"id": 1, "result": [], "was_cancelled": False, "completed_by": 1}
    convert(
        [{"id": 1, "data": {"text": "a\r\nb\rc"}, "annotations": [annotation]}],
        SPANS,
        "CSV",
        tmp_path,
    )

    assert b"a\r\nb\rc" in (tmp_path / "result.csv").read_bytes()


def test_images_are_fetched_if_requested(tmp_path):
    uris = []

    def fetch(uri, file):
        uris.append(uri)
        file.write_bytes(b"picture")

    convert(PICTURES, BOXES, "COCO", tmp_path, fetch)
    result = json.loads((tmp_path / "result.json").read_text())

    assert uris == ["s3://bucket/a/x.png", "s3://bucket/b/x.png"]
    assert [item["file_name"] for item in result["images"]] == ["images/1-x.png", "images/2-x.png"]
    assert files(tmp_path)["images/2-x.png"] == b"picture"


def test_csv_has_one_row_per_task(tmp_path):
    convert(PICTURES, BOXES, "CSV", tmp_path)
    (body,) = files(tmp_path).values()
    rows = list(csv.DictReader(body.decode().splitlines()))

    assert [row["image"] for row in rows] == ["s3://bucket/a/x.png", "s3://bucket/b/x.png"]


def test_spans_become_conll(tmp_path):
    value = {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}
    result = [{"id": "r", "type": "labels", "from_name": "l", "to_name": "t", "value": value}]
    annotation = {"id": 1, "result": result, "was_cancelled": False}
    document = {"id": 1, "data": {"text": "Anna sings"}, "annotations": [annotation]}
    convert([document], SPANS, "CONLL2003", tmp_path)

    assert b"Anna -X- _ B-PER\nsings -X- _ O" in files(tmp_path)["result.conll"]


def test_unsuitable_format_error_lists_the_suitable_formats(tmp_path):
    with pytest.raises(FormatError, match=r"COCO can't represent .* CONLL2003"):
        convert([], SPANS, "COCO", tmp_path)

    assert "CONLL2003" in supported_formats(SPANS)


def test_addresses_in_tasks_are_not_fetched(tmp_path, fake_server):
    convert([picture(1, f"{fake_server.url}/x.png", "car")], BOXES, "COCO", tmp_path)

    assert fake_server.requests == []


@pytest.fixture
def fake_server():
    from tests.contracts.conftest import serving

    with serving() as server:
        yield server


def test_paths_in_tasks_are_not_read(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    convert([picture(1, str(secret), "car")], BOXES, "YOLO", tmp_path / "out")

    assert not [body for body in files(tmp_path / "out").values() if b"secret" in body]


def test_converter_that_fails_is_a_format_error(tmp_path):
    broken = {**PICTURES[0], "annotations": [{"id": 1, "result": [{"from_name": "b"}]}]}
    with pytest.raises(FormatError, match="converter failed at COCO: KeyError"):
        convert([broken], BOXES, "COCO", tmp_path)

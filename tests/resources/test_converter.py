import csv
import json
import weakref
from contextlib import suppress

import pytest

from ls_pipeline.domain.errors import FormatError
from ls_pipeline.resources.converter import convert, supported_formats

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


RLE = [0, 0, 0, 4, 57, 27, 252, 127, 224]
"""A mask of one pixel."""

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


def test_sizes_that_are_no_numbers_lose_the_box(tmp_path):
    broken = picture(1, "s3://bucket/x.png", "car")
    broken["annotations"][0]["result"][0]["original_width"] = "wide"
    report = convert([broken, *PICTURES], BOXES, "COCO", tmp_path)

    assert report.sentence == (
        "1 of 4 results are not in it (1: the size of its picture is not known). See lost.json."
    )


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
    convert([task], config, "JSON", tmp_path, lambda uri, file: bool(file.write_text(uri)))

    assert {body.decode() for path, body in files(tmp_path).items() if path.startswith("im")} == {
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
        return bool(file.write_bytes(b"picture"))

    convert(PICTURES, BOXES, "COCO", tmp_path, fetch)
    result = json.loads((tmp_path / "result.json").read_text())

    assert uris == ["s3://bucket/a/x.png", "s3://bucket/b/x.png"]
    assert [item["file_name"] for item in result["images"]] == ["images/1-x.png", "images/2-x.png"]
    assert files(tmp_path)["images/2-x.png"] == b"picture"


def test_image_that_is_not_fetched_keeps_its_uri(tmp_path):
    def fetch(uri, file):
        return "/b/" in uri and bool(file.write_bytes(b"picture"))

    convert(PICTURES, BOXES, "COCO", tmp_path / "coco", fetch)
    convert(PICTURES, BOXES, "YOLO", tmp_path / "yolo", fetch)
    result = json.loads((tmp_path / "coco/result.json").read_text())

    assert [item["file_name"] for item in result["images"]] == [
        "s3://bucket/a/x.png",
        "images/2-x.png",
    ]
    assert {"labels/1-x.txt", "labels/2-x.txt"} <= files(tmp_path / "yolo").keys()
    assert [path for path in files(tmp_path / "yolo") if path.startswith("images")] == [
        "images/2-x.png"
    ]


@pytest.mark.parametrize("name", ["YOLO", "VOC"])
def test_equal_names_of_other_images_stay_separate(tmp_path, name):
    addresses = ["https://a.org/x.png", "/data/local-files/?d=a/x.png", "http://b.org/x.png"]
    convert(
        [picture(number, address, "car") for number, address in enumerate(addresses)],
        BOXES,
        name,
        tmp_path,
    )

    assert len([path for path in files(tmp_path) if "-x." in path]) == 3


def test_coco_of_nothing_has_the_labels(tmp_path):
    convert([], BOXES, "COCO", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())

    assert [item["name"] for item in result["categories"]] == ["car", "bus"]
    assert (result["images"], result["annotations"]) == ([], [])


HOSTILE = ["../../x", "/etc/x", "..", "a/../../../x", "\\..\\x", "x\n", "~/x", "-" * 300]


@pytest.mark.parametrize("name", ["JSON_MIN", "CSV", "COCO", "YOLO", "VOC", "BRUSH_TO_PNG"])
def test_names_in_annotations_lead_nowhere_else(tmp_path, name):
    config = BOXES if name != "BRUSH_TO_PNG" else BOXES.replace("Rectangle", "Brush")
    for text in HOSTILE:
        for address in (text, f"s3://bucket/{text}", f"https://host/{text}"):
            document = picture(text, address, text)
            annotation = document["annotations"][0]
            annotation["completed_by"] = {"email": text}
            if name == "BRUSH_TO_PNG":
                value = {"rle": RLE, "brushlabels": [text], "format": "rle"}
                changes = {"type": "brushlabels", "value": value}
                annotation["result"][0].update(original_width=1, original_height=1, **changes)
            with suppress(FormatError):
                convert([document], config, name, tmp_path / "a/b/c/out")

    assert all(path.startswith("a/b/c/out/") for path in files(tmp_path))


def test_brush_masks_become_pictures(tmp_path):
    document = picture(1, "s3://bucket/a.png", "car")
    value = {"rle": RLE, "brushlabels": ["car"], "format": "rle"}
    changes = {"type": "brushlabels", "value": value, "original_width": 1, "original_height": 1}
    document["annotations"][0]["result"][0].update(changes)
    convert([document], BOXES.replace("Rectangle", "Brush"), "BRUSH_TO_PNG", tmp_path)

    assert files(tmp_path).keys() == {"task-1-annotation-1-by-1-b-car-0.png", "lost.json"}


def test_label_config_that_is_a_path_is_not_read(tmp_path):
    config = tmp_path / "config.xml"
    config.write_text(BOXES)
    with pytest.raises(FormatError, match="label config can't be read"):
        convert(PICTURES, str(config), "COCO", tmp_path / "out")


class Document(dict):
    """A dictionary that a weak reference can follow."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("name", supported_formats(BOXES))
def test_one_task_is_in_memory_at_a_time(tmp_path, name):
    alive, most = weakref.WeakSet(), 0

    def documents():
        nonlocal most
        for number in range(5):
            document = Document(picture(number, "s3://b/x.png", "car"))
            alive.add(document)
            most = max(most, len(alive))
            yield document
            del document

    convert(documents(), BOXES, name, tmp_path)

    assert most <= 2


def test_csv_has_one_row_per_task(tmp_path):
    convert(PICTURES, BOXES, "CSV", tmp_path)
    rows = list(csv.DictReader((tmp_path / "result.csv").read_text().splitlines()))

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


ODD = [["text"], [None], [{"type": "rectanglelabels", "value": None}], 5, None]


@pytest.mark.parametrize("name", supported_formats(BOXES))
def test_what_can_not_be_read_holds_up_no_other(tmp_path, name):
    results = [picture(number, f"s3://b/{number}.png") for number in range(10, 10 + len(ODD))]
    for document, odd in zip(results, ODD, strict=True):
        document["annotations"][0]["result"] = odd
    data = [
        {**picture(number, ""), "data": odd} for number, odd in enumerate([[], 5, {}, None], 20)
    ]
    others = [*results, *(data if name != "JSON" else [])]
    convert([*PICTURES, *others], BOXES, name, tmp_path / "output")
    written = b"".join(file.read_bytes() for file in (tmp_path / "output").rglob("*.*"))

    assert written

"""Other programs read what the writers wrote, and find what was annotated."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import supervision as sv
from hypothesis import given, settings
from PIL import Image
from pycocotools.coco import COCO

from ls_pipeline.resources.converter import convert
from tests.domain.converters.annotated import BOXES, CLASSES, NAMES, SHAPES, tasks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

EVERY = ["rectangle", "ellipse", "polygon", "brush"]
FEW = settings(max_examples=25, deadline=None)


@contextlib.contextmanager
def converted(made, config, name):
    """Yield the folder of tasks in a format, with their pictures, and the report."""

    def fetch(uri, file):
        Image.new("L", sizes[uri]).save(file)
        return True

    sizes = {task["data"]["image"]: size for task, size, _ in made}
    with tempfile.TemporaryDirectory() as folder:
        documents = [task for task, _, _ in made]
        yield Path(folder), convert(documents, config, name, Path(folder), fetch)


@FEW
@given(made=tasks(EVERY))
def test_pycocotools_finds_boxes_masks_and_classes(made):
    with converted(made, SHAPES, "COCO") as (folder, report):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(folder / "result.json")
        for image, (_, size, regions) in zip(coco.dataset["images"], made, strict=True):
            found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            wanted = [(region, label) for region in regions for label in region.labels]
            with Image.open(folder / image["file_name"]) as picture:
                assert picture.size == size
            assert (image["width"], image["height"]) == size
            assert len(found) == len(wanted)
            for annotation, (region, label) in zip(found, wanted, strict=True):
                assert coco.cats[annotation["category_id"]]["name"] == label
                left, top, right, bottom = region.box
                expected = [left, top, right - left, bottom - top]
                assert annotation["bbox"] == pytest.approx(expected, abs=0.01)
                mask = coco.annToMask(annotation)
                if region.kind == "brush":
                    assert (mask == (region.mask > 0)).all()
                else:
                    assert mask.sum() == pytest.approx(annotation["area"], abs=60)
    assert [item["name"] for item in coco.dataset["categories"]] == CLASSES
    assert report.is_complete


@FEW
@given(made=tasks(["rectangle"]))
def test_supervision_finds_boxes_of_yolo(made):
    with converted(made, BOXES, "YOLO") as (folder, report):
        check(read_yolo(folder), made, 0.01)
    turned = [r for *_, regions in made for r in regions if r.result["value"]["rotation"]]
    assert (report.lost, report.simplified) == (0, len(turned))


@FEW
@given(made=tasks(EVERY))
def test_supervision_finds_outlines_of_yolo(made):
    with converted(made, SHAPES, "YOLO") as (folder, report):
        dataset = read_yolo(folder)
        check(dataset, made, 0.01)
        for _, _, detections in dataset:
            assert not len(detections) or detections.mask is not None
    assert report.is_complete


@FEW
@given(made=tasks(["rectangle"]))
def test_supervision_finds_boxes_at_any_angle(made):
    with converted(made, BOXES, "YOLO_OBB") as (folder, report):
        dataset = read_yolo(folder, is_obb=True)
        for name, _, detections in dataset:
            regions = regions_of(name, made)
            if regions:
                corners = np.array([region.outline for region, _ in regions])
                assert detections.data["xyxyxyxy"] == pytest.approx(corners, abs=0.01)
    assert report.is_complete


@FEW
@given(made=tasks(EVERY, turns=False))
def test_supervision_finds_boxes_of_voc(made):
    with converted(made, SHAPES, "VOC") as (folder, report):
        dataset = sv.DetectionDataset.from_pascal_voc(
            str(folder / "images"), str(folder / "Annotations")
        )
        check(dataset, made, 1)
    shapes = [region for *_, regions in made for region in regions if region.kind != "rectangle"]
    assert (report.lost, report.simplified) == (0, len(shapes))


@FEW
@given(made=tasks(EVERY))
def test_pandas_finds_all_values(made):
    with converted(made, SHAPES, "CSV") as (folder, _):
        frame = pd.read_csv(folder / "result.csv", keep_default_na=False)
    assert list(frame["id"]) == [task["id"] for task, _, _ in made]
    for (_, _, regions), row in zip(made, frame.to_dict("records"), strict=True):
        cells = [row[NAMES[kind]] for kind in EVERY if row.get(NAMES[kind])]
        found = [value for cell in cells for value in json.loads(cell)]
        sized = [sized_value(region) for kind in EVERY for region in regions if region.kind == kind]
        assert found == sized


def sized_value(region):
    names = ("original_width", "original_height")
    return {**region.result["value"], **{name: region.result[name] for name in names}}


def read_yolo(folder, *, is_obb=False):
    return sv.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), is_obb=is_obb
    )


def regions_of(name, made):
    task_id = int(Path(name).name.partition("-")[0])
    regions = next(regions for task, _, regions in made if task["id"] == task_id)
    return [(region, label) for region in regions for label in region.labels]


def check(dataset, made, tolerance):
    assert len(dataset) == len(made)
    for name, _, detections in dataset:
        wanted = regions_of(name, made)
        found = [dataset.classes[number] for number in detections.class_id]
        assert found == [label for _, label in wanted]
        if wanted:
            boxes = np.array([region.box for region, _ in wanted])
            assert np.abs(detections.xyxy - boxes).max() <= tolerance

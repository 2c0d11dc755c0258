"""Folders for training between real stores, as other programs load them."""

import contextlib
import io

import pytest

from ls_pipeline.cli.demo import samples
from ls_pipeline.domain.snapshot.manifest import Latest

pytestmark = pytest.mark.server

TARGET = {
    "prefix": "labels",
    "folders": ["YOLO", "COCO"],
    "test_share": 0.3,
    "validation_share": 0.3,
}


@pytest.mark.parametrize("cloud", ["gcs", "s3"])
def test_folder_is_loaded_by_other_programs(stage, cloud):
    source, target = getattr(stage, cloud)("in"), stage.s3("out")
    pictures = dict(samples.pictures(6))
    for key, body in pictures.items():
        source.put(key, body, "image/png")
    params = {"use_blob_urls": True}
    stage.add("shapes", samples.PICTURE_CONFIG, source, target, params, TARGET)
    stage.sync()
    stage.label_all("shapes")
    stage.sync()
    latest = Latest.model_validate_json(target.get("labels/training_data/latest.json"))
    root = f"labels/training_data/datasets/{latest.snapshot}/"
    for page in target.pages(root):
        for stored in page:
            file = stage.folder / stored.key[len(root) :]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(target.get(stored.key))

    for name in ("yolo", "coco"):
        written = sorted(file.read_bytes() for file in (stage.folder / name).glob("images/*/*"))
        assert written == sorted(pictures.values())
    assert sum(map(len, yolo(stage.folder / "yolo").values())) == len(pictures)
    assert boxes_of_coco(stage.folder / "coco") == boxes_of_yolo(stage.folder / "yolo")


def yolo(folder):
    """Return split → the dataset that supervision loads."""
    import supervision

    return {
        images.name: supervision.DetectionDataset.from_yolo(
            str(images), str(folder / "labels" / images.name), str(folder / "data.yaml")
        )
        for images in folder.glob("images/*")
    }


def boxes_of_yolo(folder):
    """Return the boxes in pixels of each picture's file name, with their classes."""
    return {
        path.rpartition("/")[2]: sorted(
            (dataset.classes[number], *(round(float(side)) for side in box))
            for number, box in zip(detections.class_id, detections.xyxy, strict=True)
        )
        for dataset in yolo(folder).values()
        for path, _, detections in dataset
    }


def boxes_of_coco(folder):
    """Return the same of what pycocotools loads."""
    from pycocotools.coco import COCO

    found = {}
    for file in folder.glob("annotations/*.json"):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(file))
        split = file.stem.removeprefix("instances_")
        for image in coco.loadImgs(coco.getImgIds()):
            assert (folder / "images" / split / image["file_name"]).is_file()
            boxes = []
            for each in coco.loadAnns(coco.getAnnIds([image["id"]])):
                x, y, width, height = each["bbox"]
                (category,) = coco.loadCats([each["category_id"]])
                sides = (round(side) for side in (x, y, x + width, y + height))
                boxes.append((category["name"], *sides))
            found[image["file_name"]] = sorted(boxes)
    return found

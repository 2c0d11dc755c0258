"""The writer of each format, and the formats that fit a label config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.domain.converters.asr import AsrWriter
from ls_pipeline.domain.converters.coco import CocoWriter
from ls_pipeline.domain.converters.conll import ConllWriter
from ls_pipeline.domain.converters.mask_files import MaskWriter
from ls_pipeline.domain.converters.records import JsonMinWriter, JsonWriter, TableWriter
from ls_pipeline.domain.converters.shown import KEY_POINT
from ls_pipeline.domain.converters.voc import VocWriter
from ls_pipeline.domain.converters.yolo import YoloWriter
from ls_pipeline.domain.snapshot.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ls_pipeline.domain.converters.shown import ShownConfig
    from ls_pipeline.domain.converters.writer import Setup, Writer

WRITERS: Mapping[str, Callable[[Setup], Writer]] = {
    "JSON": JsonWriter,
    "JSON_MIN": JsonMinWriter,
    "CSV": lambda setup: TableWriter(setup, "csv", ","),
    "TSV": lambda setup: TableWriter(setup, "tsv", "\t"),
    "CONLL2003": ConllWriter,
    "COCO": CocoWriter,
    "YOLO": YoloWriter,
    "YOLO_OBB": lambda setup: YoloWriter(setup, "obb"),
    "VOC": VocWriter,
    "BRUSH_TO_NUMPY": lambda setup: MaskWriter(setup, "npy"),
    "BRUSH_TO_PNG": lambda setup: MaskWriter(setup, "png"),
    "BRUSH_TO_COCO": lambda setup: CocoWriter(setup, "result_coco.json"),
    "ASR_MANIFEST": AsrWriter,
}

PICTURE_FORMATS = {name for name in FORMATS if name.startswith(("COCO", "YOLO", "VOC", "BRUSH"))}
"""Formats of pictures, whose writers ask for each picture's file."""

OWN_MEDIA = {*PICTURE_FORMATS, "ASR_MANIFEST"}
"""Formats whose writers ask for files; in the others, task data names them."""


def fitting(config: ShownConfig) -> list[str]:
    """Return the formats that can hold what a label config asks for."""
    shapes = config.shapes
    found = {"JSON", "JSON_MIN", "CSV", "TSV"}
    if shapes:
        found |= {"COCO", "YOLO"}
    if shapes - {KEY_POINT}:
        found |= {"VOC", "YOLO_OBB"}
    if shapes & {"brush", "magicwand", "bitmask"}:
        found |= {"BRUSH_TO_NUMPY", "BRUSH_TO_PNG", "BRUSH_TO_COCO"}
    if any(control.tag == "labels" for control in config.controls_of("text")):
        found.add("CONLL2003")
    recordings = config.controls_of("audio") + config.controls_of("audioplus")
    if any(control.tag == "textarea" for control in recordings):
        found.add("ASR_MANIFEST")
    return [name for name in FORMATS if name in found]

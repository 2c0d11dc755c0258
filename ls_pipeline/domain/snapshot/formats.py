"""The formats that training data can be converted to, and whose annotations they have."""

from typing import Literal, get_args

Annotations = Literal["all", "latest", "ground-truth", "majority"]
ANNOTATIONS: tuple[Annotations, ...] = get_args(Annotations)

FORMATS = (
    "JSON",
    "JSON_MIN",
    "CSV",
    "TSV",
    "CONLL2003",
    "COCO",
    "YOLO",
    "YOLO_OBB",
    "VOC",
    "BRUSH_TO_NUMPY",
    "BRUSH_TO_PNG",
    "BRUSH_TO_COCO",
    "ASR_MANIFEST",
)
"""Their names, as in Label Studio's export."""

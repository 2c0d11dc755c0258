"""The formats that training data can be converted to."""

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
"""The formats of label-studio-sdk's converter that need no further downloads."""

CONVERTER = "label_studio_sdk"
"""The converter's package."""

NO_CONVERTER = "The converter to other formats, label-studio-sdk, is not installed."
INSTALL = "Run pip install 'ls-pipeline[formats]'."

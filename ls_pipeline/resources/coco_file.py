"""Puts COCO files together, with one of them in memory at a time."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class CocoFile:
    """A COCO file in the making; a folder holds what was added."""

    def __init__(self, folder: Path) -> None:
        self.info: dict[str, Any] = {}
        self.categories: dict[str, dict[str, Any]] = {}
        """By name."""
        self._images = _Items(folder / "images.part")
        self._annotations = _Items(folder / "annotations.part")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for items in (self._images, self._annotations):
            self._stack.enter_context(items.stream)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, file: Path) -> None:
        """Add the content of a file. Its ids continue those before; its labels keep theirs."""
        document = json.loads(file.read_bytes())
        self.info = document["info"]
        category_ids = {item["id"]: self._category_id(item) for item in document["categories"]}
        first_image, first_annotation = self._images.next_id, self._annotations.next_id
        for image in document["images"]:
            self._images.add({**image, "id": first_image + image["id"]})
        for annotation in document["annotations"]:
            ids = {
                "id": first_annotation + annotation["id"],
                "image_id": first_image + annotation["image_id"],
                "category_id": category_ids[annotation["category_id"]],
            }
            self._annotations.add({**annotation, **ids})

    def write(self, output: Path) -> None:
        """Write all that was added to a file."""
        with output.open("wb") as stream:
            categories = list(self.categories.values())
            stream.write(f'{{"categories": {json.dumps(categories)},\n"images": ['.encode())
            self._images.copy_to(stream)
            stream.write(b'],\n"annotations": [')
            self._annotations.copy_to(stream)
            stream.write(f'],\n"info": {json.dumps(self.info)}}}\n'.encode())

    def _category_id(self, category: dict[str, Any]) -> int:
        known = self.categories.get(category["name"])
        if known is None:
            taken = {other["id"] for other in self.categories.values()}
            number = category["id"] if category["id"] not in taken else max(taken) + 1
            known = self.categories[category["name"]] = {**category, "id": number}
        number_known: int = known["id"]
        return number_known


class _Items:
    """Items of a JSON list in a file, each with an id."""

    def __init__(self, file: Path) -> None:
        self.stream = file.open("w+b")
        self.next_id = 0

    def add(self, item: dict[str, Any]) -> None:
        self.stream.write(b",\n" if self.stream.tell() else b"\n")
        self.stream.write(json.dumps(item).encode())
        self.next_id = max(self.next_id, item["id"] + 1)

    def copy_to(self, stream: Any) -> None:
        self.stream.seek(0)
        shutil.copyfileobj(self.stream, stream)

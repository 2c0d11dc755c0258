"""Contenders for peak memory: loads of objects of many shapes, each as large as is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.fixtures import BUCKET, Result, new_connection, open_bucket
from benchmarks.load_contenders import load_run

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = b"word " * 200
TASK = b'{"text": "' + WORDS + b'"}'
EMOJI_TASK = b'{"text": "' + WORDS + "\N{SLIGHTLY SMILING FACE}".encode() + b'"}'

Shape = tuple[str, bytes, bytes, bytes]
"""How keys end; then what is at the start, what is repeated as often as it fits, and the end."""


def shapes() -> dict[str, Shape]:
    """Return the shapes by title."""
    keys = b",".join(b'"%x":1' % n for n in range(249_000))
    nested = (b"[" * 90 + b"]" * 90 + b",") * 2700
    floats = b"0.1," * 2_000_000
    return {
        "a list of tasks": ("json", b"[", TASK + b",", TASK + b"]"),
        "a list of tasks with an emoji each": ("json", b"[", EMOJI_TASK + b",", EMOJI_TASK + b"]"),
        "lines of tasks": ("jsonl", b"", TASK + b"\n", TASK),
        "a list of numbers": ("json", b"[", b"1,", b"1]"),
        "a list of empty lists": ("json", b"[", b"[],", b"[]]"),
        "a list of objects with a key twice": ("json", b"[", b'{"text":1,"text":1},', TASK + b"]"),
        "a list that ends in the middle": ("json", b"[", TASK + b",", b'{"text"'),
        "a task with a list of texts": ("json", b'{"text": [', b'"abc",', b'"abc"]}'),
        "a list with a text": ("json", b'["', b"a", b'"]'),
        "a list with quotation marks in a text": ("json", b'["', rb"\"", b'"]'),
        "lists in lists": ("json", b"", b"[", b""),
        "spaces before a task": ("json", b"", b" ", TASK),
        "a line that never ends, among tasks": ("jsonl", TASK + b"\n", b"a", b"\n" + TASK),
        "empty lines before a task": ("jsonl", b"", b"\n", TASK),
        "lines of numbers": ("jsonl", b"", b"1\n", b"1"),
        "rows full of keys": ("jsonl", b"", b'{"text":"a","x":{%s}}\n' % keys, TASK),
        "rows full of lists in lists": ("jsonl", b"", b'{"x":[%s1]}\n' % nested, TASK),
        "rows of 8 MB full of numbers": ("jsonl", b"", b'{"text":"a","x":[%s1]}\n' % floats, TASK),
    }


def fill_with_shape(url: str, shape: str, size: int, objects: int) -> Callable[[], Result]:
    """Fill a folder with objects of one shape. This is setup, not a contender."""
    suffix, start, part, end = shapes()[shape]

    def work() -> Result:
        body = start + part * ((size - len(start) - len(end)) // len(part)) + end
        bucket = open_bucket(url)
        for n in range(objects):
            bucket.put(f"{folder_of(shape, objects)}{n:03}.{suffix}", body, "application/json")
        return {"objects": objects}

    return work


def load_shape(url: str, shape: str, objects: int) -> Callable[[], Result]:
    """Load the objects of a folder into an empty project."""
    params = {"prefix": folder_of(shape, objects), "endpoint_url": url}
    connection_ledger = new_connection({"type": "s3", "path": BUCKET, "params": params})
    load = load_run(connection_ledger, url)

    def work() -> Result:
        loaded = load()
        return {**loaded, "quarantined": connection_ledger.objects.count_quarantined()}

    return work


def folder_of(shape: str, objects: int) -> str:
    """Return the folder of the objects of one shape."""
    return f"{shape.replace(' ', '-')}-{objects}/"

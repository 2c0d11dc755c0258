"""The folder that a conversion writes to, one task after the other."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self


class Spool:
    """Texts on disk, in the order of their writing. A text may have any character."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.count = 0

    def write(self, text: str) -> None:
        """Add a text without a line break, as JSON is."""
        self._stream.write(text + "\n")
        self.count += 1

    def read(self) -> Iterator[str]:
        """Yield all texts."""
        self._stream.seek(0)
        for line in self._stream:
            yield line[:-1]
        self._stream.seek(0, 2)

    def copy_to(self, stream: IO[str], separator: str) -> None:
        """Write all texts to a stream, with something between them."""
        for number, text in enumerate(self.read()):
            stream.write((separator if number else "") + text)


class OutputFolder:
    """A folder to fill. Close it to remove what was only for the work."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, path: str, body: str | bytes) -> None:
        """Write a file; ``path`` is relative, with slashes."""
        file = self._file(path)
        file.write_bytes(body.encode(errors="replace") if isinstance(body, str) else body)

    def open(self, path: str) -> IO[str]:
        """Open a file to write a text to it, with its line breaks as they are."""
        file = self._file(path)
        return file.open("w", encoding="utf-8", errors="replace", newline="")

    def append(self, path: str) -> IO[str]:
        """Open a file as `open` does. It is closed with the folder."""
        return self._stack.enter_context(self.open(path))

    def spool(self) -> Spool:
        """Return a spool, which is removed with the work."""
        stream = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the folder
            "w+", encoding="utf-8", errors="replace", newline="\n"
        )
        return Spool(self._stack.enter_context(stream))

    def _file(self, path: str) -> Path:
        file = self.root / path
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise ValueError(f"{path!r} leads out of the folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

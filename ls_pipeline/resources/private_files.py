"""Folders and files that only this user can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def create_private_folder(folder: Path) -> None:
    """Create a folder, and the missing ones above it. An existing folder stays as it is."""
    if not folder.is_dir():
        create_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def create_private_file(file: Path) -> None:
    """Create an empty file. An existing file stays as it is."""
    if not file.exists():
        file.touch(mode=0o600)


def write_private_file(file: Path, text: str) -> None:
    """Write a file. A new file is private from its first byte."""
    create_private_file(file)
    file.write_text(text, encoding="utf-8")

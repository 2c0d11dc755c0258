"""What the files of pictures and recordings say of themselves."""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING

from ls_pipeline.domain.converters.geometry import Size

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATION = 0x0112
"""EXIF's tag: how a picture is turned before it is shown."""

DAMAGED = (OSError, SyntaxError, ValueError, struct.error)
"""What Pillow raises for a damaged picture."""

UNKNOWN_FRAMES = 2**62
"""libsndfile says a number as large as this if it can't know the length of a recording."""

PICTURES = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Formats of pictures that are opened; Pillow calls other programs for some others."""


def write_upright(file: Path) -> Size | None:
    """Write a picture as it is shown, and return its size; None if it can't be read.

    A browser turns a picture as its EXIF data says, and annotators mark what they see. Not every
    training program turns it. A picture that is not turned stays as it is.
    """
    from PIL import Image, ImageOps

    draft = file.with_name(file.name + ".part")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=PICTURES) as picture:
                if picture.getexif().get(ORIENTATION, 1) not in range(2, 9):
                    return Size(*picture.size)
                kind, profile = picture.format, picture.info.get("icc_profile")
                shown = ImageOps.exif_transpose(picture)
            shown.save(draft, kind, quality=95, icc_profile=profile)
        draft.replace(file)
        return Size(*shown.size)
    except (*DAMAGED, Image.DecompressionBombError):
        draft.unlink(missing_ok=True)
        return None


def recording_seconds(file: Path) -> float | None:
    """Return the duration of a recording; None if it can't be read."""
    import soundfile

    try:
        information = soundfile.info(str(file))
    except (soundfile.SoundFileError, OSError):
        return None
    if information.frames >= UNKNOWN_FRAMES:
        return None
    return float(information.frames) / float(information.samplerate)

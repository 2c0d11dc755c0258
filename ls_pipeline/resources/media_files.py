"""What the files of pictures and recordings say of themselves."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ls_pipeline.domain.converters.geometry import Size

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATION = 0x0112
"""EXIF's tag: how a picture is turned before it is shown."""


def picture_size(file: Path, *, upright: bool = False) -> Size | None:
    """Return the size of a picture as it is shown; None if it can't be read.

    A browser turns a picture as its EXIF data says, and annotators mark what they see. Not every
    training program turns it. So ``upright`` writes a turned picture as it is shown.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(file) as picture:
            warnings.simplefilter("ignore")
            turned = picture.getexif().get(ORIENTATION, 1) in range(2, 9)
            if not turned:
                return Size(*picture.size)
            if upright:
                kind, profile = picture.format, picture.info.get("icc_profile")
                shown = ImageOps.exif_transpose(picture)
                shown.save(file, kind, quality=95, icc_profile=profile)
                return Size(*shown.size)
            sideways = picture.getexif()[ORIENTATION] in range(5, 9)
            return Size(*(picture.size[::-1] if sideways else picture.size))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def recording_seconds(file: Path) -> float | None:
    """Return the duration of a recording; None if it can't be read."""
    import soundfile

    try:
        information = soundfile.info(str(file))
    except (soundfile.SoundFileError, OSError):
        return None
    return float(information.frames) / float(information.samplerate)

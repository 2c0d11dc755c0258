import base64
import io
import warnings

import pytest
import soundfile
from PIL import Image

from ls_pipeline.domain.converters.geometry import Size
from ls_pipeline.domain.converters.masks import MaskError, read_mask
from ls_pipeline.resources.media_files import ORIENTATION, recording_seconds, write_upright


def picture(kind):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010E] = 6, "x"
    stream = io.BytesIO()
    Image.new("RGB", (3, 2)).save(stream, kind, exif=exif)
    return stream.getvalue()


def damaged(body, length):
    """Yield a file with each of its first bytes replaced."""
    for place in range(length):
        for byte in (0, 1, 255):
            yield body[:place] + bytes([byte]) + body[place + 1 :]


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_damaged_picture_stays_as_it_is_without_a_word(tmp_path, kind):
    file = tmp_path / "picture"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for body in damaged(picture(kind), 110):
            file.write_bytes(body)

            assert write_upright(file) or file.read_bytes() == body
    assert list(tmp_path.iterdir()) == [file]


def test_damaged_mask_is_refused():
    read = 0
    for body in damaged(picture("PNG"), 60):
        address = "data:image/png;base64," + base64.b64encode(body).decode()
        try:
            read += read_mask({"imageDataURL": address}, Size(3, 2)).size
        except MaskError:
            continue

    assert read


def test_recording_that_does_not_say_its_length_has_none(tmp_path):
    whole, file = tmp_path / "whole.mp3", tmp_path / "damaged.mp3"
    soundfile.write(whole, [0.0] * 8000, 8000, format="MP3")
    assert recording_seconds(whole)
    seconds = set()
    for body in damaged(whole.read_bytes(), 100):
        file.write_bytes(body)
        seconds.add(recording_seconds(file))

    assert max(each or 0 for each in seconds) < 10**12

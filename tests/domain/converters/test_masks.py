import numpy as np
import pytest
from PIL import Image, ImageDraw

from ls_pipeline.domain.converters import geometry, masks
from ls_pipeline.domain.converters.geometry import Size
from tests.domain.converters.annotated import pack


@pytest.mark.parametrize("most", [0, 100])
def test_outline_has_the_area_of_parts_without_holes(monkeypatch, most):
    monkeypatch.setattr(masks, "MOST_LOOPS", most)
    random = np.random.default_rng(1)
    for share in (0.1, 0.5, 0.9):
        mask = (random.random((12, 15)) < share).astype(np.uint8)
        outline = masks.outline(mask)
        wide = [(10 * x, 10 * y) for x, y in outline]
        drawn = Image.new("L", (150, 120))
        ImageDraw.Draw(drawn).polygon(wide, fill=1)
        centers = np.array(drawn)[5::10, 5::10]

        assert geometry.area(outline) == mask.sum()
        # Pillow also draws the lines between the parts.
        assert (centers >= mask).all()


def test_mask_of_any_bytes_is_an_error_or_a_mask():
    packed = pack(np.ones((3, 4), np.uint8), runs=True)

    assert masks.read_mask({"rle": packed}, Size(4, 3)).tolist() == [[1] * 4] * 3
    for value in ({"rle": packed[:8]}, {"rle": []}, {}, {"rle": [300]}, {"rle": "x"}):
        with pytest.raises(masks.MaskError):
            masks.read_mask(value, Size(4, 3))
    with pytest.raises(masks.MaskError, match="too large"):
        masks.read_mask({"rle": packed}, Size(10**6, 10**6))
    with pytest.raises(masks.MaskError):
        masks.read_mask({"imageDataURL": "data:image/png;base64,AAAA"}, Size(4, 3))

"""The picture of a bar chart."""

from xml.etree import ElementTree as ET

import pytest

from ls_pipeline.assets.chart import WIDTH, bar_chart

SERIES = {"train": "#111", "test": "#222"}
NAME = "{http://www.w3.org/2000/svg}"


def drawn(*rows):
    root = ET.fromstring(bar_chart(rows, SERIES))  # noqa: S314 - our own
    texts = [text.text for text in root.iter(f"{NAME}text")]
    boxes = [box.attrib for box in root.iter(f"{NAME}rect")]
    return texts, [box for box in boxes if box["height"] == "16"]


def test_each_row_has_its_name_its_total_and_a_segment_for_each_series():
    texts, bars = drawn(("cat", [1200, 300]), ("dog", [0, 5]))

    assert texts == ["train", "test", "cat", "1,500", "dog", "5"]
    assert [bar["fill"] for bar in bars] == ["#111", "#222"] * 2


def test_segments_are_as_wide_as_their_counts():
    _, bars = drawn(("cat", [2, 1]), ("dog", [1, 0]))
    widths = [float(bar["width"]) for bar in bars]

    assert widths[:3] == pytest.approx([286.7, 143.3, 143.3])
    assert float(bars[1]["x"]) == pytest.approx(float(bars[0]["x"]) + widths[0])
    assert float(bars[1]["x"]) + widths[1] < WIDTH


def test_chart_without_counts_has_bars_of_no_width():
    _, bars = drawn(("cat", [0, 0]))

    assert {bar["width"] for bar in bars} == {"0.0"}


def test_name_is_text_whatever_it_looks_like():
    texts, _ = drawn(("<script>&'\"</script>", [1, 0]))

    assert texts[2] == "<script>&'\"</script>"

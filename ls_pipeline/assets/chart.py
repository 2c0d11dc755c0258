"""A bar chart as an SVG picture."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH = 770
NAMES_WIDTH = 260
"""Of the names at the left of the bars."""
TOTALS_WIDTH = 80
"""Of the totals at the right of the longest bar."""
ROW = 24
BAR = 16
TOP = 32
"""Height of the legend."""


def bar_chart(rows: Sequence[tuple[str, Sequence[int]]], series: Mapping[str, str]) -> str:
    """Return a picture of bars, each with its name, its segments and its total.

    Each of ``rows`` has a name, and a count for each of ``series``: names with their colours.
    """
    most = max((sum(counts) for _, counts in rows), default=0) or 1
    scale = (WIDTH - NAMES_WIDTH - TOTALS_WIDTH) / most
    parts = []
    for place, (name, colour) in enumerate(series.items()):
        x = WIDTH - 110 * (len(series) - place)
        parts += [_box(x, 8, 12, colour, 12), _text(x + 18, 14, name)]
    for number, (name, counts) in enumerate(rows):
        top = TOP + ROW * number + (ROW - BAR) // 2
        ends = [NAMES_WIDTH + scale * end for end in accumulate(counts, initial=0)]
        parts.append(_text(NAMES_WIDTH - 8, top + BAR // 2, name, "end"))
        for (start, end), colour in zip(pairwise(ends), series.values(), strict=True):
            parts.append(_box(start, top, end - start, colour, BAR))
        parts.append(_text(ends[-1] + 6, top + BAR // 2, f"{sum(counts):,}"))
    height = TOP + ROW * len(rows) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _box(x: float, y: float, width: float, colour: str, height: int) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" dominant-baseline="central">'
        f"{escape(text)}</text>"
    )

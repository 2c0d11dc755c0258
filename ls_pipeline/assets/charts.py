"""Pictures for people: as Markdown that Dagster's UI shows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.domain.snapshot.splits import SPLITS

if TYPE_CHECKING:
    from ls_pipeline.domain.snapshot.manifest import Tally

LABELS_AT_MOST = 20
"""In a chart; the most frequent ones."""

_COLOURS = ("#3d5a80", "#98c1d9", "#ee6c4d")


def label_chart(tally: Tally) -> dg.MarkdownMetadataValue:
    """Draw how often each label was given, by split, as horizontal bars."""
    counts = {
        (control, label): found
        for control, labels in tally.labels.items()
        for label, found in labels.items()
    }
    if not counts:
        return dg.MetadataValue.md("No labels yet.")
    most = sorted(counts, key=lambda one: -sum(counts[one].values()))[:LABELS_AT_MOST]
    several = len(tally.labels) > 1
    names = [f"{control}: {label}" if several else label for control, label in most]
    figures = [[counts[one].get(split, 0) for split in SPLITS] for one in most]
    left_out = len(counts) - len(most)
    note = f"\n\n{left_out} rarer labels are left out." if left_out else ""
    return dg.MetadataValue.md(f"![labels by split]({_bars(names, figures)}){note}")


def _bars(names: list[str], figures: list[list[int]]) -> str:
    """Draw bars of three segments; give the picture as a data URL."""
    from matplotlib.figure import Figure  # half a second
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = range(len(names))
    begin = [0] * len(names)
    for n, split in enumerate(SPLITS):
        widths = [one[n] for one in figures]
        axes.barh(places, widths, left=begin, color=_COLOURS[n], label=split, height=0.7)
        begin = [at + width for at, width in zip(begin, widths, strict=True)]
    for place, whole in zip(places, begin, strict=True):
        axes.text(whole, place, f" {whole:,}", va="center", fontsize=8)
    axes.set_yticks(places, [_short(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _short(name: str, width: int = 40) -> str:
    # A dollar sign would begin a formula.
    return (name if len(name) <= width else name[: width - 1] + "…").replace("$", r"\$")


def balance_table(tally: Tally) -> dg.MarkdownMetadataValue:
    """Show each label's share of its control, by split."""
    lines = ["| label | train | validation | test |", "| --- | ---: | ---: | ---: |"]
    for control, labels in tally.labels.items():
        wholes = {split: sum(one.get(split, 0) for one in labels.values()) for split in SPLITS}
        most = sorted(labels, key=lambda one: -sum(labels[one].values()))[:LABELS_AT_MOST]
        for label in most:
            shares = [
                f"{labels[label].get(split, 0) / wholes[split]:.0%}" if wholes[split] else "-"
                for split in SPLITS
            ]
            name = f"{control}: {label}".replace("|", r"\|")
            lines.append("| " + " | ".join([name, *shares]) + " |")
    return dg.MetadataValue.md("\n".join(lines))

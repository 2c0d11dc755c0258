"""Metadata of the assets, as Dagster's UI shows it: links, charts, timings, local copies."""

from __future__ import annotations

import base64
import io
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg

from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.engine.local_mirror import local_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.domain.snapshot.manifest import Tally
    from ls_pipeline.engine.context import Took
    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.resources.local_copy import CopyResult
    from ls_pipeline.settings.model import Source, Target

LABELS_AT_MOST = 20
"""In a chart; the most frequent ones."""

_COLOURS = ("#3d5a80", "#98c1d9", "#ee6c4d")


def folder_link(part: Source | Target, key: str) -> dg.UrlMetadataValue | dg.TextMetadataValue:
    """Give a folder's page in its cloud's console; its URI where it is not Amazon's or Google's."""
    if part.cloud == "gcs":
        elsewhere = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
        page = f"https://console.cloud.google.com/storage/browser/{part.path}/{quote(key)}"
    else:
        variables = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        elsewhere = bool(part.params.endpoint_url) or any(map(os.environ.get, variables))
        page = f"https://console.aws.amazon.com/s3/buckets/{part.path}?prefix={quote(key, safe='')}"
    return dg.MetadataValue.text(part.root + key) if elsewhere else dg.MetadataValue.url(page)


def project_links(projects: Sequence[Project]) -> dict[str, dg.MetadataValue[Any]]:
    """Give the page of the project that takes new tasks, the last; of several, those of all."""
    links: dict[str, dg.MetadataValue[Any]] = {"project": dg.MetadataValue.url(projects[-1].url)}
    if len(projects) > 1:
        lines = [f"- [{one.title}]({one.url}): {one.tasks:,} tasks" for one in reversed(projects)]
        links["projects"] = dg.MetadataValue.md("\n".join(lines))
    return links


def timings_metadata(timings: Took) -> dict[str, dg.FloatMetadataValue]:
    """Return ``seconds`` so far, and ``seconds_<part>`` of each part; Dagster plots them."""
    seconds = {f"seconds_{part}": took for part, took in timings.parts.items()}
    return {
        name: dg.MetadataValue.float(round(took, 3))
        for name, took in {"seconds": timings.seconds, **seconds}.items()
    }


def mirror_metadata(
    name: str, part: Source | Target, copied: CopyResult | None
) -> dict[str, dg.MetadataValue[Any]]:
    """Return where a connection's local copy is, and what changed in it; empty without a copy."""
    if copied is None:
        return {}
    return {
        "local_copy": dg.MetadataValue.path(local_copy(name, part).root),
        "local_copy_host": dg.MetadataValue.text(socket.gethostname()),
        "files_fetched": dg.MetadataValue.int(copied.fetched),
        "files_removed": dg.MetadataValue.int(copied.removed),
        "files": dg.MetadataValue.int(copied.fetched + copied.kept),
    }


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

"""Metadata of the assets, as Dagster's UI shows it: links, charts, timings, local copies."""

from __future__ import annotations

import base64
import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg

from ls_pipeline.assets.chart import bar_chart
from ls_pipeline.domain.snapshot.splits import SPLITS
from ls_pipeline.domain.text import visible
from ls_pipeline.engine.local_mirror import local_copy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ls_pipeline.domain.snapshot.manifest import Tally
    from ls_pipeline.engine.context import RunContext, Timings
    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.resources.local_copy import CopyResult
    from ls_pipeline.settings.model import Source, Target

LABELS_AT_MOST = 20
"""Labels in a chart: the most frequent ones."""

_COLOURS = ("#3d5a80", "#98c1d9", "#ee6c4d")


def folder_link(part: Source | Target, key: str) -> dg.UrlMetadataValue | dg.TextMetadataValue:
    """Return a folder's page in the cloud's console; its URI if another service stores it."""
    if part.cloud == "gcs":
        has_console = not os.environ.get("STORAGE_EMULATOR_HOST")
        page = f"https://console.cloud.google.com/storage/browser/{part.path}/{quote(key)}"
    else:
        variables = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        has_console = not part.params.endpoint_url and not any(map(os.environ.get, variables))
        page = f"https://console.aws.amazon.com/s3/buckets/{part.path}?prefix={quote(key, safe='')}"
    return dg.MetadataValue.url(page) if has_console else text(part.root + key)


def text(*lines: str) -> dg.TextMetadataValue:
    """Return lines as plain text, with control characters escaped."""
    return dg.MetadataValue.text("\n".join(map(visible, lines)))


def verbatim(title: str) -> str:
    """Return Markdown that shows a text as it is, whatever Markdown or HTML it looks like."""
    shown = visible(title)
    if not shown.strip(" "):
        return ""
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if {shown[0], shown[-1]} & set("` ") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def project_links(projects: Sequence[Project]) -> dict[str, dg.MetadataValue[Any]]:
    """Return the page of the newest project, which takes new tasks; if several, of each."""
    links: dict[str, dg.MetadataValue[Any]] = {"project": dg.MetadataValue.url(projects[-1].url)}
    if len(projects) > 1:
        lines = [
            f"- [{verbatim(project.title)}]({project.url}): {project.tasks:,} tasks"
            for project in reversed(projects)
        ]
        links["projects"] = dg.MetadataValue.md("\n".join(lines))
    return links


def timings_metadata(timings: Timings) -> dict[str, dg.FloatMetadataValue]:
    """Return ``seconds`` so far, and ``seconds_<part>`` of each part; Dagster plots them."""
    return {
        name: dg.MetadataValue.float(round(seconds, 3))
        for name, seconds in timings.seconds().items()
    }


def notes_metadata(notes: Sequence[str]) -> dict[str, dg.TableMetadataValue]:
    """Return what a person should know although a run succeeded; empty if there is nothing."""
    return {"notes": table([{"note": note} for note in notes])} if notes else {}


def table(rows: Iterable[dict[str, Any]]) -> dg.TableMetadataValue:
    """Return rows as a table in Dagster's UI, which shows each cell as plain text."""
    return dg.MetadataValue.table([dg.TableRecord(_cells(row)) for row in rows])


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in row.items()
    }


def mirror_metadata(
    run: RunContext, part: Source | Target, copied: CopyResult | None
) -> dict[str, dg.MetadataValue[Any]]:
    """Return where a connection's local copy is, and what changed in it; empty without a copy."""
    if copied is None:
        return {}
    return {
        "local_copy": dg.MetadataValue.path(local_copy(run, part).root),
        "local_copy_host": text(socket.gethostname()),
        "files_fetched": dg.MetadataValue.int(copied.fetched),
        "files_removed": dg.MetadataValue.int(copied.removed),
        "files": dg.MetadataValue.int(copied.fetched + copied.kept),
    }


def label_chart(tally: Tally) -> dg.MarkdownMetadataValue:
    """Draw the number of results with each label, by split, as horizontal bars."""
    counts = {
        (control, label): by_split
        for control, labels in tally.labels.items()
        for label, by_split in labels.items()
    }
    if not counts:
        return dg.MetadataValue.md("No labels yet.")
    most = sorted(counts, key=lambda label: -sum(counts[label].values()))[:LABELS_AT_MOST]
    several = len(tally.labels) > 1
    names = [_short(f"{control}: {label}" if several else label) for control, label in most]
    figures = [[counts[label].get(split, 0) for split in SPLITS] for label in most]
    rows = list(zip(names, figures, strict=True))
    picture = bar_chart(rows, dict(zip(SPLITS, _COLOURS, strict=True)))
    url = "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()
    left_out = len(counts) - len(most)
    note = f"\n\n{left_out} rarer labels are left out." if left_out else ""
    return dg.MetadataValue.md(f"![labels by split]({url}){note}")


def _short(name: str, width: int = 40) -> str:
    name = visible(name)
    return name if len(name) <= width else name[: width - 1] + "…"


def balance_metadata(tally: Tally) -> dict[str, dg.TableMetadataValue]:
    """Return each label's share of its control, by split; empty without labels."""
    rows: list[dict[str, Any]] = []
    for control, labels in tally.labels.items():
        totals = {
            split: sum(by_split.get(split, 0) for by_split in labels.values()) for split in SPLITS
        }
        most = sorted(labels, key=lambda label: -sum(labels[label].values()))[:LABELS_AT_MOST]
        for label in most:
            shares: dict[str, str] = {
                split: f"{labels[label].get(split, 0) / total:.0%}" if total else "-"
                for split, total in totals.items()
            }
            rows.append({"label": f"{control}: {label}", **shares})
    return {"class_balance": table(rows)} if rows else {}

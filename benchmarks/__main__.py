"""Measure, and write docs/benchmarks.md: ``python -m benchmarks --objects 1000000``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import comparisons, report
from benchmarks.bucket_growth import growth
from benchmarks.notification_latency import notified
from benchmarks.polling_latency import latency

if TYPE_CHECKING:
    from collections.abc import Iterator


def measured(asked: argparse.Namespace, folder: Path) -> Iterator[report.Work | report.Section]:
    """Measure everything; what has size 0 is left out."""
    if asked.objects:
        yield from comparisons.detection(asked.objects, asked.latency, asked.repeats, folder)
    if asked.gcs_objects:
        yield from comparisons.detection_on_gcs(asked.gcs_objects, asked.repeats, folder)
    if asked.tasks:
        with comparisons.labels_on_made_up_bucket(asked.tasks, folder) as labels:
            yield from labels.loading(asked.tasks, asked.repeats)
        with comparisons.labels_on_moto(asked.tasks, folder) as labels:
            yield from labels.loading(asked.tasks, asked.repeats)
            yield from labels.exporting(asked.tasks, asked.repeats)
            if asked.growth:
                yield growth(asked.growth, asked.repeats, folder)
            if asked.puts:
                yield latency(labels.url, asked.puts, folder)
            if asked.notified:
                yield notified(labels.url, asked.notified, folder)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--objects", type=int, default=50_000, help="To look at on S3; 0: none.")
    parser.add_argument("--gcs-objects", type=int, default=1000, help="To look at on GCS; 0: none.")
    parser.add_argument("--tasks", type=int, default=500, help="To load and export; 0: none.")
    parser.add_argument("--growth", type=int, default=50_000, help="Up to which size; 0: none.")
    parser.add_argument("--puts", type=int, default=5, help="To time the way of; 0: none.")
    parser.add_argument("--notified", type=int, default=5, help="The same, by notifications.")
    parser.add_argument("--latency", type=float, default=0.08, help="Seconds before an answer.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = list(measured(asked, Path(folder)))
    report.write(done, asked, asked.output)


if __name__ == "__main__":
    main()

"""Measure, and write docs/benchmarks.md: ``python -m benchmarks --objects 1000000``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import comparisons, report
from benchmarks.bucket_growth import bucket_growth
from benchmarks.memory import memory
from benchmarks.notification_latency import notification_latency
from benchmarks.polling_latency import polling_latency
from benchmarks.tables import tables

if TYPE_CHECKING:
    from collections.abc import Iterator


def measure(
    options: argparse.Namespace, folder: Path
) -> Iterator[report.Comparison | report.Section]:
    """Measure everything, except for what has size 0."""
    objects, tasks, repeats = options.objects, options.tasks, options.repeats
    if objects:
        yield from comparisons.detection(objects, options.latency, repeats, folder)
    if options.gcs_objects:
        yield from comparisons.detection_on_gcs(
            options.gcs_objects, options.latency, repeats, folder
        )
        yield comparisons.detection_on_fake_gcs_server(repeats, folder)
    if not tasks:
        return
    with comparisons.label_studio_on_synthetic_s3(tasks, folder) as on_synthetic_s3:
        yield from on_synthetic_s3.loads(tasks, repeats)
    with comparisons.label_studio_on_moto(tasks, folder) as on_moto:
        yield from on_moto.loads(tasks, repeats)
        yield from on_moto.exports(tasks, repeats)
        yield on_moto.snapshots(tasks, repeats)
        if options.memory:
            yield memory(on_moto.url, options.memory, options.masks)
        if options.rows:
            yield tables(on_moto.url, on_moto.process, options.rows, options.rows_alone)
        if options.growth:
            yield bucket_growth(options.growth, repeats, folder)
        if options.puts:
            yield polling_latency(on_moto.url, options.puts, folder)
        if options.notified:
            yield notification_latency(on_moto.url, options.notified, folder)


def main() -> None:
    """Measure what the command line describes."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=f"{__doc__} A size of 0 leaves out that measurement."
    )
    parser.add_argument("--objects", type=int, default=50_000, help="Objects on S3 to probe.")
    parser.add_argument("--gcs-objects", type=int, default=50_000, help="Objects on GCS to probe.")
    parser.add_argument(
        "--tasks",
        type=int,
        default=500,
        help="Tasks to load and export; the measurements of the next seven options need them.",
    )
    parser.add_argument("--memory", type=int, default=10, help="Megabytes of large objects.")
    parser.add_argument(
        "--masks", type=int, default=1000, help="Brush masks, if memory is measured."
    )
    parser.add_argument("--rows", type=int, default=20_000, help="Rows of a table to load.")
    parser.add_argument(
        "--rows-alone",
        type=int,
        default=100_000,
        help="Rows of a table to load without Label Studio's import, if tables are measured.",
    )
    parser.add_argument("--growth", type=int, default=50_000, help="Largest growing bucket.")
    parser.add_argument("--puts", type=int, default=5, help="Objects to time with polling.")
    parser.add_argument(
        "--notified", type=int, default=5, help="Objects and labels to time with notifications."
    )
    parser.add_argument("--latency", type=float, default=0.08, help="Of a response, in seconds.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = list(measure(options, Path(folder)))
    report.write(measured, options, options.output)


if __name__ == "__main__":
    main()

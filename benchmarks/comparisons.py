"""The comparisons with peers: which work is measured, on which servers, and by which contenders."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.contender import ENVIRONMENT, Contender, run, run_alternately
from benchmarks.fixtures import BUCKET, ledger_of_all_objects
from benchmarks.report import Comparison
from benchmarks.synthetic_gcs import synthetic_gcs
from benchmarks.synthetic_s3 import synthetic_s3
from ls_pipeline.cli.servers.local_servers import label_studio_server, s3_server
from ls_pipeline.cli.servers.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ls_pipeline.cli.servers.server import Server

OUR_SENSOR = "our sensor"
LABEL_STUDIO_SYNC = "Label Studio's own sync"

SMALL_BUCKET = 2000
"""Objects of a small bucket."""

FIRST_KEY, LAST_KEY = "a.json", "z.json"
"""Keys that sort before and after all others of a synthetic bucket."""


def compare(title: str, about: str, contenders: Sequence[Contender], repeats: int) -> Comparison:
    """Measure all contenders at the same work."""
    print(title, flush=True)  # noqa: T201
    run_alternately(contenders, repeats)
    return Comparison(title, about, contenders)


# -- detection ----------------------------------------------------------------------------


def detection(objects: int, latency: float, repeats: int, folder: Path) -> Iterator[Comparison]:
    """Compare ways to find new objects in an S3 bucket."""
    ledger = f"sqlite:///{ledger_of_all_objects(objects, folder)}"

    def our_sensor(url: str, new: Sequence[str] = ()) -> Contender:
        arguments = {"url": url, "ledger": ledger, "new": list(new), "parallel": 1}
        return Contender(OUR_SENSOR, "our_s3_sensor", arguments, {"new": len(new)})

    def our_sensor_page_by_page(url: str) -> Contender:
        arguments = {"url": url, "ledger": ledger, "new": [], "parallel": 0}
        title = f"{OUR_SENSOR}, page by page"
        return Contender(title, "our_s3_sensor", arguments, {"new": 0})

    def get_objects(url: str, new: int = 0) -> Contender:
        title = "dagster-aws's get_objects"
        return Contender(title, "dagster_aws_get_objects", {"url": url}, {"new": new})

    def plain_http(url: str) -> Contender:
        title = "plain HTTP, without parsing"
        return Contender(title, "plain_http_listing", {"url": url}, {"objects": objects})

    with synthetic_s3(objects) as url:
        yield compare(
            f"Nothing new among {objects:,} objects",
            "The server answers immediately, so the figures are the client's own cost. Page by "
            "page means without the range boundaries of an earlier run, which allow parallel "
            "listing.",
            [our_sensor(url), our_sensor_page_by_page(url), get_objects(url), plain_http(url)],
            repeats,
        )
    with synthetic_s3(objects, latency) as url:
        yield compare(
            f"The same, {latency * 1000:.0f} ms away",
            "Each response is delayed, as between a machine and a bucket in the cloud.",
            [our_sensor(url), our_sensor_page_by_page(url)],
            repeats,
        )
    for where, key in (("start", FIRST_KEY), ("end", LAST_KEY)):
        with synthetic_s3(objects, extra=[key]) as url:
            yield compare(
                f"One new object at the {where} of {objects:,}",
                "The object must be found. get_objects finds it by its modification time.",
                [our_sensor(url, new=[key]), get_objects(url, new=1)],
                repeats,
            )


def detection_on_gcs(
    objects: int, latency: float, repeats: int, folder: Path
) -> Iterator[Comparison]:
    """Compare ways to find out that a GCS bucket has nothing new."""
    ledger, bucket = f"sqlite:///{folder}/gcs-ledger.db", {"bucket": BUCKET}
    with _synthetic_gcs(objects):
        run("fill_gcs_ledger", {"ledger": ledger, **bucket})
        yield compare(
            f"Nothing new among {objects:,} objects on GCS",
            "The server answers immediately, so the figures are the client's own cost. Each "
            "contender has listed the bucket once before, as a process has that runs for long.",
            [*_gcs_sensors(ledger), _get_gcs_keys()],
            repeats,
        )
    with _synthetic_gcs(objects, latency):
        yield compare(
            f"The same on GCS, {latency * 1000:.0f} ms away",
            "Each response is delayed, as between a machine and a bucket in the cloud.",
            _gcs_sensors(ledger),
            repeats,
        )


def detection_on_fake_gcs_server(repeats: int, folder: Path) -> Comparison:
    """Compare the same on a small bucket of an emulator, which stores its objects."""
    from tests.stores.fake_gcs import fake_gcs_server

    ledger, bucket = f"sqlite:///{folder}/fake-gcs-ledger.db", {"bucket": BUCKET}
    with _running(fake_gcs_server(folder / "logs")):
        run("fill_gcs_bucket", {"objects": SMALL_BUCKET, **bucket})
        run("fill_gcs_ledger", {"ledger": ledger, **bucket})
        return compare(
            f"Nothing new among {SMALL_BUCKET:,} objects on fake-gcs-server",
            "The server takes most of the time. It writes all that it knows of an object, "
            "whatever the client asks for.",
            [*_gcs_sensors(ledger), _get_gcs_keys()],
            repeats,
        )


def _gcs_sensors(ledger: str) -> list[Contender]:
    return [
        Contender(
            OUR_SENSOR if parallel else f"{OUR_SENSOR}, page by page",
            "our_gcs_sensor",
            {"ledger": ledger, "parallel": parallel, "bucket": BUCKET},
            {"new": 0},
        )
        for parallel in (1, 0)
    ]


def _get_gcs_keys() -> Contender:
    arguments = {"bucket": BUCKET}
    return Contender(
        "dagster-gcp's get_gcs_keys", "dagster_gcp_get_gcs_keys", arguments, {"new": 0}
    )


@contextmanager
def _synthetic_gcs(objects: int, latency: float = 0.0) -> Iterator[None]:
    """Run a synthetic GCS server, and point clients to it by environment variables."""
    with synthetic_gcs(objects, latency) as url:
        os.environ.update({"STORAGE_EMULATOR_HOST": url, "GOOGLE_CLOUD_PROJECT": "benchmarks"})
        yield


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    """Run a server, and point clients to it by environment variables."""
    with running([server]):
        os.environ.update(server.client_environment)
        yield server


# -- loads, exports and snapshots ---------------------------------------------------------


class LabelStudioComparisons:
    """Comparisons on one Label Studio, which reads and writes the buckets at ``url``."""

    def __init__(self, server: Server, url: str, where: str) -> None:
        self.url, self.where = url, where
        self.process = server._process.pid if server._process else 0  # noqa: SLF001

    def loads(self, objects: int, repeats: int) -> Iterator[Comparison]:
        """Compare first loads of a bucket, and second ones."""
        expected = {"created": objects, "tasks": objects}
        read = {"objects": objects}
        partial_work = {
            0: [
                self._contender(
                    "Label Studio's import alone", "import_only", expected, objects=objects
                ),
                self._contender("reading alone", "read_only", read, objects=objects),
            ],
            1: [
                self._contender(
                    "listing, then import", "list_and_import", expected, objects=objects
                )
            ],
        }
        for blobs, kind in enumerate(("JSON objects", "blobs")):
            yield compare(
                f"First load of {objects:,} {kind} from {self.where}",
                "The rows below the sync do only a part of the work, for reference.",
                [*self._loads(expected, blobs=blobs, again=0), *partial_work[blobs]],
                repeats,
            )
        yield compare(
            f"Again, nothing new among {objects:,} on {self.where}",
            "After a first load. CPU seconds are those of the client and Label Studio together.",
            self._loads({"created": 0, "tasks": objects}, blobs=0, again=1),
            repeats,
        )

    def _loads(self, expected: Mapping[str, Any], **arguments: int) -> list[Contender]:
        return [
            self._contender("our load", "our_load", expected, **arguments),
            self._contender(LABEL_STUDIO_SYNC, "label_studio_source_sync", expected, **arguments),
        ]

    def exports(self, annotations: int, repeats: int) -> Iterator[Comparison]:
        """Compare first exports of all labels, and second ones."""
        expected = {"objects": annotations}
        for again, what in enumerate(("First export of", "Again, nothing changed among")):
            arguments = {"annotations": annotations, "again": again}
            yield compare(
                f"{what} {annotations:,} annotations to {self.where}",
                "At the end, each annotation is an object in the bucket.",
                [
                    self._contender("our export", "our_export", expected, **arguments),
                    self._contender(
                        LABEL_STUDIO_SYNC, "label_studio_target_sync", expected, **arguments
                    ),
                ],
                repeats,
            )

    def snapshots(self, annotations: int, repeats: int) -> Comparison:
        """Compare the first snapshot with the one after a hundredth of the annotations changed."""
        few = max(annotations // 100, 1)
        return compare(
            f"A snapshot of {annotations:,} annotations on {self.where}",
            "Parquet files of all tasks, annotations and results. Each snapshot is complete.",
            [
                self._contender(
                    title,
                    "our_snapshot",
                    {"rows": annotations},
                    annotations=annotations,
                    changed=changed,
                )
                for title, changed in ((f"after {few:,} changed", few), ("the first", 0))
            ],
            repeats,
        )

    def _contender(
        self, title: str, function: str, expected: Mapping[str, Any], **arguments: int
    ) -> Contender:
        return Contender(title, function, {"url": self.url, **arguments}, expected, self.process)


@contextmanager
def label_studio_on_moto(objects: int, folder: Path) -> Iterator[LabelStudioComparisons]:
    """Run a Label Studio, with a bucket of objects on moto's S3."""
    with _running(s3_server(folder / "logs")) as s3:
        url = s3.client_environment["AWS_ENDPOINT_URL"]
        print(f"Filling a bucket with {objects:,} objects …", flush=True)  # noqa: T201
        run("fill_s3_bucket", {"url": url, "objects": objects})
        with _label_studio(url, folder / "on-moto") as server:
            yield LabelStudioComparisons(server, url, "moto")


@contextmanager
def label_studio_on_synthetic_s3(objects: int, folder: Path) -> Iterator[LabelStudioComparisons]:
    """Run a Label Studio, with a bucket of objects on the synthetic S3 server."""
    with synthetic_s3(objects) as url, _label_studio(url, folder / "on-synthetic") as server:
        yield LabelStudioComparisons(server, url, "a synthetic bucket")


@contextmanager
def _label_studio(url: str, folder: Path) -> Iterator[Server]:
    buckets = {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}
    with _running(label_studio_server(folder, folder / "logs", buckets)) as server:
        yield server

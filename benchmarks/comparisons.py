"""All the work that is measured: what it is, on which servers, and who does it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.contender import ENVIRONMENT, Contender, in_turn, list_server, made_up_ledger, run
from benchmarks.load_contenders import BUCKET
from benchmarks.report import Work
from ls_pipeline.cli.servers.local_servers import gcs_server, label_studio_server, s3_server
from ls_pipeline.cli.servers.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ls_pipeline.cli.servers.server import Server

OURS = "our sensor"
ONE_BY_ONE = "our sensor, page after page"
RAW = "plain HTTP, nothing understood"

BEFORE, AFTER = "a.json", "z.json"
"""Keys before and after all that a made-up bucket has."""


def measure(title: str, about: str, contenders: Sequence[Contender], repeats: int) -> Work:
    """Let all of them do some work."""
    print(title, flush=True)  # noqa: T201
    in_turn(contenders, repeats)
    return Work(title, about, contenders)


def detection(objects: int, latency: float, repeats: int, folder: Path) -> Iterator[Work]:
    """Find what is new in a bucket on S3."""
    ledger = f"sqlite:///{made_up_ledger(objects, folder)}"

    def ours(title: str, url: str, *, parallel: bool, new: Sequence[str] = ()) -> Contender:
        asked = {"url": url, "ledger": ledger, "new": list(new), "parallel": int(parallel)}
        return Contender(title, "sensor", asked, {"new": len(new)})

    def peer(url: str, new: int = 0) -> Contender:
        return Contender("dagster-aws's get_objects", "get_objects", {"url": url}, {"new": new})

    with list_server(objects) as url:
        yield measure(
            f"Nothing new among {objects:,} objects",
            "The server answers at once, so this is what a look costs the machine that looks.",
            [
                ours(OURS, url, parallel=True),
                ours(ONE_BY_ONE, url, parallel=False),
                peer(url),
                Contender(RAW, "raw_listing", {"url": url}, {"objects": objects}),
            ],
            repeats,
        )
    with list_server(objects, latency) as url:
        yield measure(
            f"The same, {latency * 1000:.0f} ms away",
            "Each answer waits, as it does between a machine and a bucket in the cloud.",
            [ours(OURS, url, parallel=True), ours(ONE_BY_ONE, url, parallel=False)],
            repeats,
        )
    for where, key in (("start", BEFORE), ("end", AFTER)):
        with list_server(objects, extra=[key]) as url:
            yield measure(
                f"One new object at the {where} of {objects:,}",
                "It must be found; get_objects finds it by its time of modification.",
                [ours(OURS, url, parallel=True, new=[key]), peer(url, new=1)],
                repeats,
            )


def detection_on_gcs(objects: int, repeats: int, folder: Path) -> Iterator[Work]:
    """Find that nothing is new in a bucket on GCS."""
    with _started(gcs_server(folder / "logs")):
        run("filled_gcs_bucket", {"bucket": BUCKET, "objects": objects})
        yield measure(
            f"Nothing new among {objects:,} objects on GCS",
            "On the emulator, whose pages are slow to come; processor seconds are the clients'.",
            [
                Contender(OURS, "gcs_sensor", {"bucket": BUCKET}, {"new": 0}),
                Contender(
                    "dagster-gcp's get_gcs_keys", "get_gcs_keys", {"bucket": BUCKET}, {"new": 0}
                ),
            ],
            repeats,
        )


@contextmanager
def _started(server: Server) -> Iterator[Server]:
    """Run a server, and lead clients to it."""
    with running([server]):
        os.environ.update(server.client_environment)
        yield server


class Labels:
    """A Label Studio of its own that reads and writes the buckets at one address."""

    def __init__(self, server: Server, url: str, where: str) -> None:
        self.url, self.where = url, where
        self.process = server._process.pid if server._process else 0  # noqa: SLF001

    def contender(self, title: str, name: str, right: Mapping[str, Any], **asked: int) -> Contender:
        return Contender(title, name, {"url": self.url, **asked}, right, self.process)

    def loading(self, objects: int, repeats: int) -> Iterator[Work]:
        """Load a bucket, and once more."""
        right = {"made": objects, "tasks": objects}
        peer = "Label Studio's own sync"
        limits = {
            0: [
                self.contender("its import alone", "import_alone", right, objects=objects),
                self.contender(
                    "reading alone", "reading_alone", {"objects": objects}, objects=objects
                ),
            ],
            1: [self.contender("listing, then import", "list_and_import", right, objects=objects)],
        }
        for blobs, what in enumerate(("JSON objects", "blobs")):
            yield measure(
                f"First load of {objects:,} {what} from {self.where}",
                "What is alone does a part of the work, and no way to do all of it is faster.",
                [
                    self.contender("our pass", "our_pass", right, blobs=blobs, again=0),
                    self.contender(peer, "label_studio_sync", right, blobs=blobs, again=0),
                    *limits[blobs],
                ],
                repeats,
            )
        again = {"made": 0, "tasks": objects}
        yield measure(
            f"Again, nothing new among {objects:,} on {self.where}",
            "After a first load; processor seconds are those of client and Label Studio together.",
            [
                self.contender("our pass", "our_pass", again, blobs=0, again=1),
                self.contender(peer, "label_studio_sync", again, blobs=0, again=1),
            ],
            repeats,
        )

    def exporting(self, annotations: int, repeats: int) -> Iterator[Work]:
        """Write all labels, and once more; make a snapshot of them, and once more."""
        right = {"objects": annotations}
        for again, what in enumerate(("First export of", "Again, nothing changed among")):
            yield measure(
                f"{what} {annotations:,} annotations to {self.where}",
                "Each is an object in the bucket at the end.",
                [
                    self.contender(
                        "our export", "our_export", right, annotations=annotations, again=again
                    ),
                    self.contender(
                        "Label Studio's own sync",
                        "label_studio_target_sync",
                        right,
                        annotations=annotations,
                        again=again,
                    ),
                ],
                repeats,
            )
        some = max(annotations // 100, 1)
        yield measure(
            f"A snapshot of {annotations:,} annotations on {self.where}",
            "Parquet of all tasks, annotations and results, whole each time.",
            [
                self.contender(
                    title,
                    "our_snapshot",
                    {"rows": annotations},
                    annotations=annotations,
                    changed=changed,
                )
                for title, changed in ((f"after {some:,} changed", some), ("the first", 0))
            ],
            repeats,
        )


@contextmanager
def labels_on_moto(objects: int, folder: Path) -> Iterator[Labels]:
    """Give a Label Studio on moto's S3, with a bucket of objects."""
    with _started(s3_server(folder / "logs")) as s3:
        url = s3.client_environment["AWS_ENDPOINT_URL"]
        print(f"Filling a bucket with {objects:,} objects …", flush=True)  # noqa: T201
        run("filled_bucket", {"url": url, "objects": objects})
        with _label_studio(url, folder / "on-moto") as server:
            yield Labels(server, url, "moto")


@contextmanager
def labels_on_made_up_bucket(objects: int, folder: Path) -> Iterator[Labels]:
    """Give a Label Studio on a server whose objects take no time."""
    with list_server(objects) as url, _label_studio(url, folder / "on-made-up") as server:
        yield Labels(server, url, "a made-up bucket")


@contextmanager
def _label_studio(url: str, folder: Path) -> Iterator[Server]:
    buckets = {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}
    with _started(label_studio_server(folder, folder / "logs", buckets)) as server:
        yield server

"""What contenders set up before they are measured: ledgers, connections, projects, tasks.

Imports of large libraries are inside functions, so that a contender has only those that it uses.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.contender import run
from benchmarks.synthetic_s3 import NumberedKeys, etag, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

    from ls_pipeline.domain.listing_ranges import RangeBoundary
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.connection import ConnectionLedger, HeldConnection
    from ls_pipeline.resources.ledger.ledger import Ledger

Result = dict[str, Any]
"""What a contender found or made, to be compared with what is expected."""

BUCKET = "bench"
TASKS_PER_REQUEST = 1000
ROWS_PER_TRANSACTION = 10_000
LABEL_CONFIG = """
<View>
  <Text name="text" value="$text"/>
  <Choices name="topic" toName="text"><Choice value="any"/><Choice value="other"/></Choices>
</View>
"""


def annotation_result(choice: str) -> dict[str, Any]:
    """Return one result of an annotation, as `LABEL_CONFIG` defines it."""
    value = {"choices": [choice]}
    return {"from_name": "topic", "to_name": "text", "type": "choices", "value": value}


# -- the ledger ---------------------------------------------------------------------------


def new_ledger_url() -> str:
    """Return the URL of a ledger in a temporary folder."""
    return f"sqlite:///{tempfile.mkdtemp()}/ledger.db"


def new_connection(
    source: Mapping[str, Any] | None,
    target: Mapping[str, Any] | None = None,
    ledger: str | Ledger = "",
) -> ConnectionLedger:
    """Store a new connection in a ledger, or in the one at a URL; without a URL, in a new one."""
    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.settings.validation import build_connection

    opened = Ledger(ledger or new_ledger_url()) if isinstance(ledger, str) else ledger
    name = f"ours-{uuid4().hex[:8]}"
    settings = build_connection(
        name, source=source, target=target, project=name, label_config=LABEL_CONFIG
    )
    opened.save(settings, "benchmarks")
    return opened.connection_ledger(name)


def record_as_loaded(held: HeldConnection, keys: NumberedKeys) -> None:
    """Record synthetic objects as loaded, without tasks."""
    from ls_pipeline.domain.diff import KnownObject, State
    from ls_pipeline.resources.ledger.records import LedgerUpdate

    for begin in range(0, len(keys), ROWS_PER_TRANSACTION):
        known = [
            KnownObject(key, etag(key), size(key), State.LOADED)
            for key in keys[begin : begin + ROWS_PER_TRANSACTION]
        ]
        held.intents.record(LedgerUpdate(finished=known))


def ledger_of_all_objects(objects: int, folder: Path) -> Path:
    """Return the file of a ledger that knows all objects of a synthetic bucket.

    It is made at the first call for this number of objects.
    """
    file = folder / f"ledger-{objects}.db"
    if not file.exists():
        print(f"Filling a ledger with {objects:,} objects …", flush=True)  # noqa: T201
        run("fill_ledger", {"ledger": f"sqlite:///{file}", "objects": objects})
    return file


# -- buckets ------------------------------------------------------------------------------


def open_bucket(url: str) -> Bucket:
    """Open the bucket that all contenders use, on the S3 server at ``url``."""
    from ls_pipeline.resources.s3.bucket import S3Buckets

    return S3Buckets(endpoint_url=url).open(BUCKET)


def range_boundaries(
    bucket: Bucket, folder: str = "", new: Sequence[str] = ()
) -> list[RangeBoundary]:
    """List a bucket; return its range boundaries, as if all keys except ``new`` were loaded."""
    from ls_pipeline.domain.listing_ranges import BoundaryTracker, RangeDiff

    tracker = BoundaryTracker()
    for listing_range in bucket.ranges(folder):
        tracker.record(RangeDiff(listing_range.through, 0, [], completed=listing_range))
    return tracker.range_boundaries(new)


# -- Label Studio -------------------------------------------------------------------------


def label_studio_client() -> httpx.Client:
    """Return an HTTP client of the Label Studio that the environment names."""
    import httpx

    token = f"Token {os.environ['LABEL_STUDIO_API_KEY']}"
    # On a kept-alive connection, each of its answers comes 40 ms late.
    headers = {"Authorization": token, "Connection": "close"}
    return httpx.Client(
        base_url=os.environ["LABEL_STUDIO_URL"], headers=headers, timeout=3600, trust_env=False
    )


def new_project(client: httpx.Client, title: str = "") -> int:
    """Create an empty project; return its id."""
    body = {"title": title or uuid4().hex, "label_config": LABEL_CONFIG}
    response = client.post("/api/projects/", json=body).raise_for_status()
    return int(response.json()["id"])


def import_tasks(client: httpx.Client, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Import tasks over plain HTTP, batch by batch."""
    for begin in range(0, len(tasks), TASKS_PER_REQUEST):
        batch = tasks[begin : begin + TASKS_PER_REQUEST]
        client.post(f"/api/projects/{project}/import", json=batch).raise_for_status()


def count_tasks(client: httpx.Client, project: int) -> int:
    """Return the number of tasks of a project."""
    return int(client.get(f"/api/projects/{project}/").raise_for_status().json()["task_number"])

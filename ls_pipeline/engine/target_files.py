"""Compares the files in the target with those that the ledger knows."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from ls_pipeline.domain.batches import sized_batches
from ls_pipeline.domain.completions import belongs_to
from ls_pipeline.domain.errors import ObjectChangedError, ObjectNotFoundError
from ls_pipeline.domain.exports import LEFT_ALONE, completion_key, is_completion_key
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.tasks import parse_origin
from ls_pipeline.engine.completion_files import WRITE_BYTES, WRITERS
from ls_pipeline.resources.ledger.records import Exported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger.records import Intent

LARGEST_COMPLETION = 256 * 2**20
"""Bytes; a larger file in the target belongs to another program."""


def find_missing_files(run: RunContext) -> list[str]:
    """Return the URIs of the completions whose files are gone from the target.

    The ledger forgets them, so that the next export writes them again.
    """
    target = run.target
    root = folder(target.params.prefix)
    existing = {stored.key for stored in _completion_files(run.bucket, root)}
    missing: dict[int, str] = {}
    for task_id, uri in run.held.exports.uris():
        key = completion_key(root, task_id)
        if uri == target.uri(key) and key not in existing:
            missing[task_id] = uri
    if missing:
        run.held.exports.forget(list(missing))
    return list(missing.values())


def verify_files(run: RunContext) -> None:
    """Trust no record of the target's files; take over those of ours that no record names.

    A target that was emptied or restored, or a ledger that was, makes this necessary.
    """
    root, exports = folder(run.target.params.prefix), run.held.exports
    known = exports.task_ids_written()
    unknown = (
        stored
        for stored in _completion_files(run.bucket, root)
        if _task_id(stored.key) not in known
    )
    adopted = []
    with ThreadPoolExecutor(WRITERS) as readers:
        for batch in sized_batches(unknown, attrgetter("size"), WRITE_BYTES):
            adopted += [found for found in readers.map(partial(_adopt, run), batch) if found]
    exports.reopen_all(adopted)
    run.held.binding.verify_files()


def reopen_changed(run: RunContext, intent: Intent) -> None:
    """Find the files that a late request has changed after a later run wrote them."""
    last = run.held.exports.last_written([row.task_id for row in intent.rows])
    written = [
        record
        for record in last.values()
        if record.digest not in {"", LEFT_ALONE} and record.uri.startswith(intent.root)
    ]
    keys = [record.uri[len(intent.root) :] for record in written]
    with ThreadPoolExecutor(WRITERS) as readers:
        versions = list(readers.map(run.bucket.version, keys))
    changed = [
        record.task_id
        for record, version in zip(written, versions, strict=True)
        if record.version != version
    ]
    if changed:
        run.held.exports.reopen(changed)


def _completion_files(bucket: Bucket, root: str) -> Iterator[StoredObject]:
    """List the files in a folder that may be completions."""
    for page in bucket.pages(root):
        yield from (stored for stored in page if is_completion_key(root, stored.key))
        if page[-1].key > f"{root}:":  # what follows the last digit
            return


def _task_id(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))


def _adopt(run: RunContext, stored: StoredObject) -> Exported | None:
    """Return the record of a file that a connection's earlier ledger wrote."""
    if stored.size > LARGEST_COMPLETION:
        return None
    try:
        document = json.loads(run.bucket.get(stored.key, stored.version))
        annotations = len(document["annotations"])
        origin, project_id = parse_origin(document["meta"]), document["project"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    except (ObjectNotFoundError, ObjectChangedError):
        return None
    if project_id not in run.projects.ids or not belongs_to(run.name, origin):
        return None
    uri = run.target.uri(stored.key)
    return Exported(_task_id(stored.key), "", "", uri, annotations, stored.version)

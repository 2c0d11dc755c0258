"""Checks of buckets: a source and its queue are read, a target is also written to."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Check
from ls_pipeline.domain.errors import (
    BucketError,
    ObjectChangedError,
    QueueError,
    SettingsMismatchError,
)
from ls_pipeline.domain.formats.choice import LARGEST_OBJECT, Reading
from ls_pipeline.domain.formats.objects import parse_tasks
from ls_pipeline.domain.notification_setup import NotificationCheck
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.tasks import Rejection
from ls_pipeline.engine.manifest import filter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.domain.label_config import LabelConfig
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.model import Source, Target
    from ls_pipeline.settings.params import SourceParams

TEST_OBJECT = ".ls_pipeline-doctor-"
"""The start of the name of the object that is written to a target and deleted again."""

PAGE = 1000
"""Objects in a full page of a listing."""


def check_source(
    source: Source, label_config: LabelConfig, cli: CliContext
) -> Generator[Check, None, str]:
    """List one page and read one object. Return its key, or an empty string."""
    place = source.root + source.params.filter.folder
    try:
        bucket = cli.bucket_of(source)
        select = filter_of(bucket, source.params)
        page = next(bucket.pages(select.folder), [])
        matching = [stored for stored in page if not select.rejected_by(stored.key)]
    except (BucketError, SettingsMismatchError) as error:
        yield Check.from_error("source: list", error)
        yield Check("source: read", "skipped", "The bucket can't be listed.")
        return ""
    total = f"the first {len(page)}" if len(page) >= PAGE else f"{len(page)}"
    message = f"{len(matching)} of {total} objects in {place} match."
    if not matching:
        hint = "Correct regex and exclude. They are matched from the start of the full key."
        if not page:
            message = f"There are no objects in {place} yet."
            hint = "If there should be objects, correct the prefix."
        yield Check("source: list", "warning", message, hint)
        yield Check("source: read", "skipped", "There is no object to read.")
        return ""
    yield Check("source: list", "ok", message)
    objects = [each for each in matching if not select.is_sidecar(each.key)] or matching
    chosen = next((each for each in objects if 0 < each.size <= LARGEST_OBJECT), objects[0])
    yield _check_object(source.params, bucket, chosen, label_config)
    return chosen.key


def _check_object(
    params: SourceParams, bucket: Bucket, stored: StoredObject, label_config: LabelConfig
) -> Check:
    uri = bucket.uri(stored.key)
    if stored.size > LARGEST_OBJECT:
        return Check("source: read", "skipped", f"{uri} is too large for a check.")
    try:
        body = bucket.get(stored.key)
    except BucketError as error:
        return Check.from_error("source: read", error)
    if params.use_blob_urls:
        return Check("source: read", "ok", f"{uri} is readable.")
    name = params.data_key or next(iter(label_config.keys), "")
    reading = Reading(params.format, params.column_map, label_config.key(name))
    count = 0
    for row in parse_tasks(stored.key, body, label_config, reading):
        if isinstance(row, Rejection):
            message = f"{uri} is readable, but not a task: {row.reason}"
            hint = (
                "Correct it, or exclude it with the param exclude. Otherwise it goes to quarantine."
            )
            return Check("source: read", "warning", message, hint)
        count += 1
    noun = "task" if count == 1 else "tasks"
    return Check("source: read", "ok", f"{uri} is readable, and has {count} {noun}.")


def check_queue(source: Source, cli: CliContext) -> Iterator[Check]:
    """Check that a source's queue can be read, and that its bucket sends notifications to it."""
    try:
        queue = cli.queues.open(source)
        queue.probe()
    except QueueError as error:
        yield Check.from_error("queue", error)
        yield Check("notifications", "skipped", "The queue can't be reached.")
        return
    yield Check("queue", "ok", f"Messages of {queue.address} can be received and deleted.")
    try:
        bucket = cli.bucket_of(source)
        result = bucket.check_notifications(queue.destination(), source.params.filter.folder)
    except (BucketError, QueueError) as error:
        message = f"The bucket's notifications can't be read. {error.message}"
        result = NotificationCheck("skipped", message)
    hint = "Run the commands below." if result.state == "warning" else ""
    yield Check("notifications", result.state, result.message, hint)


def check_target(target: Target, cli: CliContext) -> Iterator[Check]:
    """Write, read, list, replace and delete a test object."""
    key = f"{folder(target.params.prefix)}{TEST_OBJECT}{secrets.token_hex(8)}"
    body = b"Written by ls-pipeline doctor, which deletes it again.\n"
    try:
        bucket = cli.bucket_of(target)
    except BucketError as error:
        yield Check.from_error("target: write", error)
        return
    failure = None
    try:
        # Twice, because replacing an object on GCS needs the permission to delete.
        failure = _failure(
            "target: write", lambda: [bucket.put(key, body, "text/plain") for _ in range(2)]
        )
        yield failure or Check("target: write", "ok", f"{bucket.uri(key)} was written.")
        if failure is None:
            yield _check_reading(bucket, key, body)
            yield _check_listing(bucket, key)
            yield _check_conditions(bucket, key)
        else:
            for check in ("target: read", "target: list", "target: conditions"):
                yield Check(check, "skipped", "Nothing was written.")
    finally:
        deletion = _check_deletion(bucket, key, was_written=failure is None)
    yield deletion


def _check_reading(bucket: Bucket, key: str, body: bytes) -> Check:
    try:
        if bucket.get(key) == body:
            return Check("target: read", "ok", "It was read back unchanged.")
    except BucketError as error:
        return Check.from_error("target: read", error)
    hint = "Check the proxies between here and the store."
    return Check("target: read", "failed", "What was read differs from what was written.", hint)


def _check_listing(bucket: Bucket, key: str) -> Check:
    try:
        if any(stored.key == key for page in bucket.pages(key) for stored in page):
            return Check("target: list", "ok", "It is listed.")
    except BucketError as error:
        return Check.from_error("target: list", error)
    hint = "Use a store whose listings are consistent with its writes."
    return Check("target: list", "failed", "It is not listed, although it was written.", hint)


def _check_conditions(bucket: Bucket, key: str) -> Check:
    """Replace the version that is there, then one that is not."""
    check = "target: conditions"
    try:
        version = bucket.version(key)
        bucket.put(key, b"Written over it.\n", "text/plain", if_version=version)
    except ObjectChangedError:
        message = (
            "The store refuses to replace a version that it has. No snapshot can follow another."
        )
        return Check(check, "failed", message, "Use another store for this target.")
    except BucketError as error:
        return Check.from_error(check, error)
    try:
        bucket.put(key, b"Written over another version.\n", "text/plain", if_version=version)
    except ObjectChangedError:
        return Check(check, "ok", "A version that was replaced is not replaced again.")
    except BucketError as error:
        return Check.from_error(check, error)
    message = (
        "The store ignores conditions of a write. A run that was overtaken may overwrite a newer "
        "file, or make latest.json name an older snapshot. A later run writes them again."
    )
    return Check(check, "warning", message, "Let only one installation write to this target.")


def _check_deletion(bucket: Bucket, key: str, *, was_written: bool) -> Check:
    """Delete the test object, even if the write failed, because it may exist nevertheless."""
    failure = _failure("target: delete", lambda: bucket.delete(key))
    uri = bucket.uri(key)
    if not was_written:
        hint = f"If {uri} exists, delete it." if failure else ""
        return Check("target: delete", "skipped", "Nothing was written.", hint)
    if failure:
        hint = f"Only a target with `delete` needs this permission. Delete {uri} yourself."
        return Check("target: delete", "warning", failure.says, hint)
    return Check("target: delete", "ok", "It was deleted again.")


def _failure(check: str, action: Callable[[], object]) -> Check | None:
    """Return a failed check if an action fails, None if it succeeds."""
    try:
        action()
    except BucketError as error:
        return Check.from_error(check, error)
    return None

"""Checks that annotators can open what tasks name: the objects of blobs, and of other buckets."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from ls_pipeline.cli.doctor.report import Check
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.engine.projects import Projects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.settings.model import Source

SEARCHED_OBJECTS = 100
"""Known objects that are searched for loaded tasks."""

SEARCHED_TASKS = 20
"""Loaded tasks that are searched for the URLs of objects."""

FIRST_ERROR, FORBIDDEN, NOT_FOUND = 400, 403, 404
"""HTTP status codes."""

_OBJECT = re.compile(r"\b((?:s3|gs)://[^\s/\"'<>]+/)[^\s\"'<>]+")


def check_blobs(
    connection_ledger: ConnectionLedger,
    source: Source,
    key: str,
    cli: CliContext,
    *,
    app_works: bool,
) -> Iterator[Check]:
    """Open the object of a loaded task as a browser does. ``key`` is tried first."""
    tasks = _loaded_tasks(connection_ledger, source.params.filter.folder, key) if app_works else ()
    task = next(iter(tasks), None)
    if task is None:
        message = "No task is loaded yet." if app_works else "The check 'label studio' failed."
        hint = "Run ls-pipeline sync, then ls-pipeline doctor again." if app_works else ""
        yield Check("blobs: open", "skipped", message, hint)
        yield Check("blobs: CORS", "skipped", message, hint)
        return
    yield from _check_opening("blobs", task[0], source.root + task[1], cli)


def check_media(
    connection_ledger: ConnectionLedger, source: Source, cli: CliContext
) -> Iterator[Check]:
    """Open an object of each bucket that loaded tasks name, or that is a media bucket."""
    try:
        named = _named_objects(connection_ledger, source, cli)
    except PipelineError as error:
        yield Check.from_error("media: open", error)
        return
    listed = {part.root for part in source.media}
    if source.params.use_blob_urls:
        named.pop(source.root, None)  # `check_blobs` opens one
    for root, (task_id, uri) in named.items():
        is_known = root in listed or root == source.root
        hint = "" if is_known else f"Add {root} to the source param media_buckets."
        yield from _check_opening("media", task_id, uri, cli, hint)
    for root in sorted(listed - named.keys()):
        message = f"None of the first {SEARCHED_TASKS} tasks names an object of {root}."
        yield Check("media: open", "skipped", message)


def _named_objects(
    connection_ledger: ConnectionLedger, source: Source, cli: CliContext
) -> dict[str, tuple[int, str]]:
    """Return an object of each bucket that loaded tasks name, with a task that names it."""
    tasks = _loaded_tasks(connection_ledger, source.params.filter.folder)
    task_ids = [task_id for task_id, _ in islice(tasks, SEARCHED_TASKS)]
    named: dict[str, tuple[int, str]] = {}
    for completion in Projects(connection_ledger, cli.label_studio).completions(task_ids):
        for text in _texts(completion.document["data"]):
            for match in _OBJECT.finditer(text):
                named.setdefault(match[1], (completion.task_id, match[0]))
    return named


def _texts(value: Any) -> Iterator[str]:
    """Yield each text in a task's data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _check_opening(
    noun: str, task_id: int, uri: str, cli: CliContext, hint: str = ""
) -> Iterator[Check]:
    """Open an object as a browser does. ``hint`` is what to do if Label Studio can't open it."""
    try:
        response = cli.label_studio.fetch_as_browser(task_id, uri)
    except PipelineError as error:
        yield Check.from_error(f"{noun}: open", error)
        return
    host = response.host or "Label Studio itself"
    if response.status >= FIRST_ERROR or not response.status:
        answer = f"answers {response.status}" if response.status else "does not answer"
        message = f"{uri} does not open in Label Studio: {host} {answer}."
        hint = hint or _opening_hint(response.status, response.host)
        yield Check(f"{noun}: open", "failed", message, hint)
        yield Check(f"{noun}: CORS", "skipped", "The object does not open.")
        return
    yield Check(f"{noun}: open", "ok", f"Task {task_id} opens {uri} from {host}.")
    yield _check_cors(noun, cli.label_studio.public_url, response.host, response.cors_allowed)


def _opening_hint(status: int, host: str) -> str:
    if host and status == NOT_FOUND:
        return "If the object was removed, its task can't show it. Otherwise check the endpoint."
    if host and status:
        return (
            "Label Studio's server needs credentials that may read the bucket and use its KMS key, "
            "if it has one. The source's region_name must be the bucket's region."
        )
    if host:
        return "Make the bucket's endpoint reachable from here and from the annotators' browsers."
    if status == FORBIDDEN:
        return "Add the user of LABEL_STUDIO_API_KEY to the project."
    return (
        "Run ls-pipeline sync, which registers the bucket. Label Studio's server needs credentials "
        "for the bucket, and its endpoint as S3_ENDPOINT."
    )


def _check_cors(noun: str, pages: str, host: str, allowed: bool) -> Check:  # noqa: FBT001
    if not host:
        return Check(f"{noun}: CORS", "ok", "Label Studio serves the object itself.")
    if allowed:
        return Check(f"{noun}: CORS", "ok", f"{host} lets pages of {pages} read the object.")
    return Check(
        f"{noun}: CORS",
        "failed",
        f"{host} does not let pages of {pages} read the object, so browsers can't show it.",
        f"Add a CORS rule to the bucket that allows GET from {pages}.",
    )


def _loaded_tasks(
    connection_ledger: ConnectionLedger, folder: str, key: str = ""
) -> Iterator[tuple[int, str]]:
    """Yield the id and the key of a task of ``key``, then of each of the first known objects."""
    known_objects = islice(connection_ledger.objects.known(folder), SEARCHED_OBJECTS)
    known_keys = (known.key for known in known_objects if known.state is not State.REMOVED)
    for candidate in (key, *known_keys):
        for row in islice(connection_ledger.objects.all_rows_of(candidate) if candidate else (), 1):
            yield row.task_id, candidate

"""What can be tried before a pass: each finding is a sentence, and says what to do."""

from __future__ import annotations

import os
import secrets
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ls_pipeline.assets.run import bucket_of
from ls_pipeline.cli.doctor.report import Check, Findings, Report
from ls_pipeline.cli.doctor.requirements import policies, setups
from ls_pipeline.cli.servers.webhook_receiver import answers_at
from ls_pipeline.domain.diff import State
from ls_pipeline.domain.errors import (
    BucketError,
    PipelineError,
    QueueError,
)
from ls_pipeline.domain.notification_setup import NotificationCheck
from ls_pipeline.domain.objects import folder
from ls_pipeline.domain.tasks import LARGEST_OBJECT, Rejection, data_keys, parse_tasks
from ls_pipeline.engine.projects import Projects
from ls_pipeline.resources.environment import home, webhook_secret, webhook_url
from ls_pipeline.settings.validation import data_key_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.domain.objects import StoredObject
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.labeling_app import DiagnosableLabelingApp, Project
    from ls_pipeline.resources.ledger.connection import Account
    from ls_pipeline.settings.model import Connection, Source, SourceParams, Target

    T = TypeVar("T")
    _Steps = Generator["Check", None, T]
    """Checks, and what they found out for those that follow."""

SUPPORTED = ("1", "23")
"""Label Studio's version."""

PROBE = ".ls_pipeline-doctor-"
"""How the name of the object begins that is written to a target and deleted again."""

ADVISED_TASKS = 100_000
"""Of a project: https://labelstud.io/guide/tasks says that more make it slow."""

LOOKS = 100
"""Known objects that are searched for a loaded task."""

REFUSED, FORBIDDEN, ABSENT = 400, 403, 404
PAGE = 1000


def examine(names: Sequence[str], cli: CliContext) -> Report:
    """Try everything in general, then for each connection; all of them if none is named.

    Raises ``UnknownConnectionError`` before anything is tried. What is tried leaves nothing
    behind, in a bucket or in Label Studio.
    """
    checks = list(_own_state(cli))
    if any(one.state == "failed" for one in checks):
        return Report([*checks, *_label_studio(cli)], {})
    wanted = names or cli.ledger.names()
    accounts = {name: cli.ledger.account(name) for name in wanted}
    app = list(_label_studio(cli))
    answers = not any(one.state == "failed" for one in app)
    region = os.environ.get("AWS_DEFAULT_REGION", "")
    found = {}
    for name, account in accounts.items():
        tried = list(_guarded(_connection(account, cli, answers=answers)))
        connection = account.revision().connection
        found[name] = Findings(tried, policies(connection, region), setups(connection, region))
    return Report([*checks, *app], found)


def _guarded(checks: Iterable[Check]) -> Iterator[Check]:
    """Let a fault of our own, or one that no adapter knows, hold up no other connection."""
    try:
        yield from checks
    except Exception as error:  # noqa: BLE001 - it becomes a finding
        yield Check("doctor", "failed", f"A check broke off: {type(error).__name__}.", "Report it.")


def _from_error(check: str, error: PipelineError) -> Check:
    return Check(check, "failed", error.message, error.hint)


# -- in general ---------------------------------------------------------------------------


def _own_state(cli: CliContext) -> Iterator[Check]:
    try:
        count = len(cli.ledger.names())
    except PipelineError as error:
        yield _from_error("ledger", error)
        return
    place = home()
    if place.exists() and not os.access(place, os.W_OK):
        yield Check("home", "failed", f"{place} can't be written to.", "Correct LS_PIPELINE_HOME.")
    noun = "connection" if count == 1 else "connections"
    yield Check("ledger", "ok", f"The ledger opens, with {count} {noun}; the home is {place}.")


def _label_studio(cli: CliContext) -> Iterator[Check]:
    app: DiagnosableLabelingApp = cli.label_studio
    try:
        info = app.server_info()
    except PipelineError as error:
        yield _from_error("label studio", error)
        return
    yield Check("label studio", "ok", f"It answers at {app.base_url}.")
    yield Check("token", "ok", f"The {info.token} of {info.user} is accepted.")
    if tuple(info.version.split(".")[:2]) == SUPPORTED:
        yield Check("version", "ok", f"Label Studio is {info.version}.")
    else:
        yield Check(
            "version",
            "warning",
            f"Label Studio is {info.version}; ls_pipeline is tested with {'.'.join(SUPPORTED)}.",
            "Try one connection on a small folder first.",
        )


# -- of a connection ----------------------------------------------------------------------


def _connection(account: Account, cli: CliContext, *, answers: bool) -> Iterator[Check]:
    connection = account.revision().connection
    if answers:
        keys = yield from _project(account, connection, cli)
    else:
        keys = ()
        yield Check("project", "skipped", "Label Studio could not be asked.")
    if source := connection.source:
        seen = yield from _source(source, keys, cli)
        if source.params.use_blob_urls:
            yield from _blobs(account, seen, cli, answers=answers)
        if source.params.notifications:
            yield from _queue(source, cli)
    if target := connection.target:
        yield from _target(target, cli)
        if answers and (url := webhook_url()):
            yield from _webhook(account, url, cli)


def _project(account: Account, connection: Connection, cli: CliContext) -> _Steps[tuple[str, ...]]:
    """Look for the projects; give the data keys of the newest one's label config.

    Where there is none, those of the label config that it will get.
    """
    app = cli.label_studio
    try:
        found = Projects(account, app).all() or list(
            filter(None, [app.find_project(connection.project)])
        )
    except PipelineError as error:
        yield _from_error("project", error)
        return ()
    for project in found:
        yield Check("project", "ok", f"It is {project.title!r}, {project.url}.")
    if not found:
        yield Check("project", "ok", f"{connection.project!r} will be made by the first pass.")
    elif connection.source:
        yield from _project_size(found[-1], connection.source)
    config = found[-1].label_config if found else connection.label_config
    return (yield from _label_config(connection.source, config))


def _project_size(newest: Project, source: Source) -> Iterator[Check]:
    if newest.tasks > ADVISED_TASKS and not source.params.tasks_per_project:
        yield Check(
            "project size",
            "warning",
            f"{newest.title!r} has {newest.tasks:,} tasks; Label Studio's maintainers advise about "
            f"{ADVISED_TASKS:,} a project.",
            "Set the source param tasks_per_project, and new tasks go to a further project.",
        )


def _label_config(source: Source | None, config: str) -> _Steps[tuple[str, ...]]:
    try:
        keys = data_keys(config)
    except PipelineError as error:
        yield _from_error("label config", error)
        return ()
    if not keys:
        blocks = source and source.params.use_blob_urls and not source.params.data_key
        yield Check(
            "label config",
            "failed" if blocks else "warning",
            "The label config shows no data.",
            'Give the project one with a tag like <Text name="text" value="$text"/>.',
        )
    elif errors := list(data_key_errors(source.params, config)) if source else []:
        yield Check("label config", "failed", " ".join(errors), "Change the one or the other.")
    else:
        yield Check("label config", "ok", f"It shows {', '.join(map(repr, keys))}.")
    return keys


def _source(source: Source, keys: tuple[str, ...], cli: CliContext) -> _Steps[str]:
    """List one page and read one object; give its key."""
    select = source.params.filter
    where = source.root + select.folder
    try:
        bucket = bucket_of(source, cli.s3, cli.gcs)
        listed = next(bucket.pages(select.folder), [])
    except BucketError as error:
        yield _from_error("source: list", error)
        yield Check("source: read", "skipped", "The bucket can't be listed.")
        return ""
    matching = [one for one in listed if not select.rejected_by(one.key)]
    many = "the first " if len(listed) >= PAGE else ""
    counted = f"{len(matching)} of {many}{len(listed)} objects below {where} are selected."
    if matching:
        yield Check("source: list", "ok", counted)
        one = next((one for one in matching if 0 < one.size <= LARGEST_OBJECT), matching[0])
        yield _read(source.params, bucket, one, keys)
        return one.key
    if listed:
        do = "Correct the regex: it is matched from the start of the full key."
        yield Check("source: list", "warning", counted, do)
    else:
        do = "Correct the prefix, if there should be something."
        yield Check("source: list", "warning", f"There is nothing below {where} yet.", do)
    yield Check("source: read", "skipped", "There is no object to read.")
    return ""


def _read(params: SourceParams, bucket: Bucket, one: StoredObject, keys: tuple[str, ...]) -> Check:
    if one.size > LARGEST_OBJECT:
        return Check("source: read", "skipped", f"{bucket.uri(one.key)} is too large to try.")
    try:
        body = bucket.get(one.key)
    except BucketError as error:
        return _from_error("source: read", error)
    says = f"{bucket.uri(one.key)} is readable"
    if params.use_blob_urls:
        return Check("source: read", "ok", f"{says}.")
    found = list(parse_tasks(one.key, body, keys))
    rejections = [item for item in found if isinstance(item, Rejection)]
    if rejections:
        do = "Correct it, or leave it out by the regex: it will go to quarantine."
        return Check("source: read", "warning", f"{says}, but no task: {rejections[0].reason}", do)
    noun = "task" if len(found) == 1 else "tasks"
    return Check("source: read", "ok", f"{says}, and holds {len(found)} {noun}.")


def _blobs(account: Account, key: str, cli: CliContext, *, answers: bool) -> Iterator[Check]:
    """Open an object of a loaded task as its page in Label Studio does."""
    source = account.revision().connection.source
    task = _loaded_task(account, source.params.filter.folder, key) if source and answers else None
    if source is None or task is None:
        says = "No task is loaded yet." if answers else "Label Studio could not be asked."
        do = "Run ls-pipeline sync, then this again." if answers else ""
        for check in ("blobs: open", "blobs: CORS"):
            yield Check(check, "skipped", says, do)
        return
    number, uri = task[0], source.root + task[1]
    try:
        opened = cli.label_studio.fetch_as_browser(number, uri)
    except PipelineError as error:
        yield _from_error("blobs: open", error)
        return
    at = opened.host or "Label Studio itself"
    if opened.status >= REFUSED or not opened.status:
        said = f"answers {opened.status}" if opened.status else "does not answer"
        yield Check(
            "blobs: open",
            "failed",
            f"{uri} does not open in Label Studio: {at} {said}.",
            _advice_on_opening(opened.status, opened.host),
        )
        yield Check("blobs: CORS", "skipped", "The object does not open.")
        return
    yield Check("blobs: open", "ok", f"Task {number} opens {uri}, from {at}.")
    yield _cors(cli.label_studio.public_url, opened.host, allowed=opened.cors_allowed)


def _advice_on_opening(status: int, host: str) -> str:
    if host and status == ABSENT:
        return "If the object was removed since, its task can't show it; else check the endpoint."
    if host and status:
        return (
            "Give Label Studio's server credentials that may read the bucket, and the key of KMS "
            "that encrypts it; set the source's region_name to the bucket's."
        )
    if host:
        return "Have the bucket's endpoint reachable from the annotators' browsers and from here."
    if status == FORBIDDEN:
        return "Let the user of LABEL_STUDIO_API_KEY into the project."
    return (
        "Run ls-pipeline sync, which registers the bucket; give Label Studio's server credentials "
        "for it, and its endpoint as S3_ENDPOINT."
    )


def _cors(pages: str, host: str, *, allowed: bool) -> Check:
    if not host:
        return Check("blobs: CORS", "ok", "Label Studio hands on the bytes itself.")
    if allowed:
        return Check("blobs: CORS", "ok", f"{host} lets pages of {pages} read the object.")
    return Check(
        "blobs: CORS",
        "failed",
        f"{host} does not let pages of {pages} read the object, so that browsers don't show it.",
        f"Give the bucket a CORS rule that allows GET from {pages}.",
    )


def _loaded_task(account: Account, begin: str, key: str) -> tuple[int, str] | None:
    """Give the id and key of a loaded task: of ``key``, or one of the first that are known."""
    some = islice(account.known(begin), LOOKS)
    known = (one.key for one in some if one.state is not State.REMOVED)
    for one in (key, *known):
        for row in account.rows_of(one).values() if one else ():
            return row.task_id, one
    return None


# -- notifications ------------------------------------------------------------------------


def _queue(source: Source, cli: CliContext) -> Iterator[Check]:
    """Try the queue of a source's notifications, and look whether its bucket tells it."""
    try:
        queue = cli.queues.open(source)
        queue.probe()
    except QueueError as error:
        yield _from_error("queue", error)
        yield Check("notifications", "skipped", "The queue can't be reached.")
        return
    yield Check("queue", "ok", f"{queue.address} gives out messages, and takes them back.")
    try:
        bucket = bucket_of(source, cli.s3, cli.gcs)
        told = bucket.check_notifications(queue.destination(), source.params.filter.folder)
    except (BucketError, QueueError) as error:
        seen = _from_error("notifications", error).says
        told = NotificationCheck("skipped", f"Whom the bucket tells can't be seen. {seen}")
    do = "Run the commands below." if told.state == "warning" else ""
    yield Check("notifications", told.state, told.message, do)


def _webhook(account: Account, url: str, cli: CliContext) -> Iterator[Check]:
    """See that the receiver of webhooks answers here, and that Label Studio knows it."""
    if answers_at(url):
        yield Check("webhooks", "ok", f"Their receiver answers at {url}.")
    else:
        do = "Run ls-pipeline webhooks, or ls-pipeline start; correct LS_PIPELINE_WEBHOOK_URL."
        yield Check("webhooks", "warning", f"No receiver of ours answers at {url}.", do)
    ids = list(account.projects().values())
    if not ids:
        return
    app, address = cli.label_studio, f"{url}/connections/{account.name}"
    try:
        known = all(app.has_webhook(one, address, webhook_secret()) for one in ids)
    except PipelineError as error:
        yield _from_error("called back", error)
        return
    if known:
        yield Check("called back", "ok", f"Label Studio calls {address} when labels change.")
    else:
        do = "Run ls-pipeline sync, which says what stands in the way."
        yield Check("called back", "warning", f"Label Studio does not call {address} yet.", do)


# -- the target ---------------------------------------------------------------------------


def _target(target: Target, cli: CliContext) -> Iterator[Check]:
    """Write, read, list and delete an object of our own."""
    key = f"{folder(target.params.prefix)}{PROBE}{secrets.token_hex(8)}"
    body = b"ls-pipeline doctor wrote this, and was to delete it.\n"
    try:
        bucket = bucket_of(target, cli.s3, cli.gcs)
    except BucketError as error:
        yield _from_error("target: write", error)
        return
    refused = None
    try:
        # Twice: on GCS, to replace an object is to delete the old one.
        refused = _tried(
            "target: write", lambda: [bucket.put(key, body, "text/plain") for _ in range(2)]
        )
        yield refused or Check("target: write", "ok", f"{bucket.uri(key)} is written.")
        if refused is None:
            yield from _found_again(bucket, key, body)
        else:
            for check in ("target: read", "target: list"):
                yield Check(check, "skipped", "Nothing was written.")
    finally:
        gone = _gone(bucket, key, unwritten=refused is not None)
    yield gone


def _found_again(bucket: Bucket, key: str, body: bytes) -> Iterator[Check]:
    read: list[bytes] = []
    refused = _tried("target: read", lambda: read.append(bucket.get(key)))
    if refused or read == [body]:
        yield refused or Check("target: read", "ok", "It is read back as it was written.")
    else:
        do = "Look what stands between here and the store."
        yield Check("target: read", "failed", "Other bytes come back than were written.", do)
    pages: list[list[StoredObject]] = []
    refused = _tried("target: list", lambda: pages.extend(bucket.pages(key)))
    if refused or any(one.key == key for page in pages for one in page):
        yield refused or Check("target: list", "ok", "It is listed.")
    else:
        do = "Use a store whose listings show what was written."
        yield Check("target: list", "failed", "It is not listed after it was written.", do)


def _gone(bucket: Bucket, key: str, *, unwritten: bool) -> Check:
    """Delete the probe, also where it is not certain that it was written."""
    try:
        bucket.delete(key)
    except BucketError as error:
        if unwritten:
            do = f"Should {bucket.uri(key)} be there, delete it."
            return Check("target: delete", "skipped", "Writing failed.", do)
        what = _from_error("target: delete", error).says
        do = f"Only a target with `delete` needs this. Delete {bucket.uri(key)} yourself."
        return Check("target: delete", "warning", what, do)
    if unwritten:
        return Check("target: delete", "skipped", "Nothing was written.")
    return Check("target: delete", "ok", "It is deleted again.")


def _tried(check: str, use: Callable[[], object]) -> Check | None:
    """Try it; give what is wrong, if anything is."""
    try:
        use()
    except BucketError as error:
        return _from_error(check, error)
    return None

"""Checks of notifications: the bucket's queue, and Label Studio's webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ls_pipeline.cli.doctor.report import Check
from ls_pipeline.domain.errors import BucketError, PipelineError, QueueError
from ls_pipeline.domain.notification_setup import NotificationCheck
from ls_pipeline.resources.environment import webhook_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ls_pipeline.cli.context import CliContext
    from ls_pipeline.resources.ledger.connection import ConnectionLedger
    from ls_pipeline.settings.model import Source


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


def check_webhook(
    connection_ledger: ConnectionLedger, url: str, cli: CliContext
) -> Iterator[Check]:
    """Check that the webhook receiver answers, and that Label Studio is set up to call it."""
    from ls_pipeline.cli.servers.webhook_receiver import answers_at  # slow

    if answers_at(url):
        yield Check("webhooks", "ok", f"The webhook receiver answers at {url}.")
    else:
        hint = "Run ls-pipeline webhooks or ls-pipeline start, or correct LS_PIPELINE_WEBHOOK_URL."
        yield Check("webhooks", "warning", f"No webhook receiver answers at {url}.", hint)
    project_ids = list(connection_ledger.projects.ids().values())
    if not project_ids:
        return
    app, address = cli.label_studio, f"{url}/connections/{connection_ledger.name}"
    try:
        is_registered = all(app.has_webhook(id_, address, webhook_secret()) for id_ in project_ids)
    except PipelineError as error:
        yield Check.from_error("webhook calls", error)
        return
    if is_registered:
        yield Check("webhook calls", "ok", f"Label Studio calls {address} when labels change.")
    else:
        hint = "Run ls-pipeline sync. It registers the webhook, or warns why it can't."
        yield Check("webhook calls", "warning", f"Label Studio does not call {address} yet.", hint)

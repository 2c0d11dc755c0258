"""SQS queues, over botocore's client, with our own credentials or in a source's role."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.events import LARGEST_BODY, Message
from ls_pipeline.domain.permissions import aws_partition
from ls_pipeline.resources.failures import cause_of, queue_error
from ls_pipeline.resources.pace import keep_pace
from ls_pipeline.resources.patience import Patience
from ls_pipeline.resources.s3.botocore_data import new_session
from ls_pipeline.resources.s3.credentials import (
    Role,
    check_variables,
    create_client,
)
from ls_pipeline.resources.s3.errors import SQS, failure, handled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

BATCH = 10
"""Messages per request, at most."""

CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 10.0
"""Timeouts of a request; an answer may wait for messages for most of its time."""

AFTERWARDS_SECONDS = 1.0
"""How much longer to wait for further messages than for the first."""

NO_RECEIPT = "ls-pipeline doctor"
"""A receipt of no message."""


@dataclass
class SQSQueue:
    """One SQS queue; implements ``Queue``. The region is used if the URL names none."""

    address: str
    region_name: str = ""
    role_arn: str = ""
    external_id: str = ""
    new_session: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    """Returns a botocore session; None: one with the credentials that AWS's tools find."""

    def receive(self, most: int, wait: float) -> list[Message]:
        deadline, messages = time.monotonic() + wait + AFTERWARDS_SECONDS, list[Message]()
        with self._translated():
            while len(messages) < most and time.monotonic() < deadline:
                answer = self._client.receive_message(
                    QueueUrl=self.address,
                    MaxNumberOfMessages=min(BATCH, most - len(messages)),
                    # A request that waits asks all of SQS's servers, another only some.
                    WaitTimeSeconds=0 if messages else max(1, round(wait)),
                )
                received = answer.get("Messages", ())
                if not received:
                    break
                messages += map(_message, received)
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._translated():
            for batch in batches(messages, BATCH):
                self._delete([message.receipt for message in batch])

    def probe(self) -> None:
        with self._translated():
            self._client.receive_message(
                QueueUrl=self.address, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=0
            )
            self._delete([NO_RECEIPT])

    def destination(self) -> str:
        return arn_of(self.address, self.region_name)

    def _delete(self, receipts: Sequence[str]) -> None:
        entries = [{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(receipts)]
        # The answer names messages that are gone or were delivered again: both are fine.
        self._client.delete_message_batch(QueueUrl=self.address, Entries=entries)

    @cached_property
    def _client(self) -> Any:
        """The client, created once: a tick comes every few seconds."""
        from botocore.config import Config  # half a second

        check_variables()
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"max_attempts": 1, "mode": "standard"},
        )
        session = (self.new_session or new_session)()
        region = region_of(self.address) or self.region_name
        role = Role(self.role_arn, self.external_id, region) if self.role_arn else None
        client = create_client(
            session,
            "sqs",
            self.patience,
            role,
            region_name=region or None,
            endpoint_url="{0.scheme}://{0.netloc}".format(urlsplit(self.address)),
            config=config,
        )
        keep_pace(client)
        return client

    @cached_property
    def patience(self) -> Patience:
        """How long its credentials may take."""
        return Patience()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what botocore raises into our errors, and drop the client.

        Credentials in a file may have been renewed by the next request.
        """
        try:
            yield
        except handled() as error:
            vars(self).pop("_client", None)
            found = failure(error, SQS)
            raise queue_error(self.address, found) from cause_of(error, found)


def _message(item: Mapping[str, Any]) -> Message:
    return Message(item.get("Body", "")[: LARGEST_BODY + 1], {}, item.get("ReceiptHandle", ""))


def region_of(address: str) -> str:
    """Return the region that an SQS queue's URL names; empty if it names none."""
    host = urlsplit(address).hostname or ""
    match = re.search(
        r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.|api\.aws$)"
        r"|^([a-z0-9-]+)\.queue\.amazonaws\.",
        host,
    )
    return (match[1] or match[2]) if match else ""


def arn_of(address: str, region: str) -> str:
    """Return the ARN of a queue; ``region`` serves if the queue's URL names none."""
    region = region_of(address) or region or "us-east-1"
    account, _, name = urlsplit(address).path.strip("/").rpartition("/")
    return f"arn:{aws_partition(region)}:sqs:{region}:{account.rpartition('/')[2]}:{name}"

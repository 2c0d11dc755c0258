"""SQS queues, over botocore's client, as the account or the role that a source's params name."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    QueueAccessError,
    QueueError,
    QueueUnavailableError,
)
from ls_pipeline.domain.events import Message
from ls_pipeline.resources.s3.credentials import CredentialsError, check_keys, session_in_role

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.settings.model import Source

BATCH = 10
"""Messages that a request gives or takes at most."""

CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 10.0
"""What a request may take, and what it waits for messages is the most of it."""

AFTERWARDS_SECONDS = 1.0
"""How much longer than for the first message to wait for the others."""

NO_RECEIPT = "ls-pipeline doctor"
"""A receipt of no message."""


@dataclass
class SQSQueue:
    """One SQS queue; keeps the promises of ``Queue``."""

    address: str
    region_name: str = ""
    role_arn: str = ""
    external_id: str = ""
    _made: Any = field(default=None, init=False, repr=False)

    @classmethod
    def from_source(cls, source: Source) -> SQSQueue:
        """Give the queue that a source names; nothing is asked of it yet."""
        params = source.params
        region = region_of(params.notifications) or params.region_name
        return cls(params.notifications, region, params.role_arn, params.external_id)

    def receive(self, most: int, wait: float) -> list[Message]:
        deadline, found = time.monotonic() + wait + AFTERWARDS_SECONDS, list[Message]()
        with self._translated():
            while len(found) < most and time.monotonic() < deadline:
                answer = self._client.receive_message(
                    QueueUrl=self.address,
                    MaxNumberOfMessages=min(BATCH, most - len(found)),
                    # Who waits asks all of SQS's servers, else a few. Who has some needn't wait.
                    WaitTimeSeconds=0 if found else max(1, round(wait)),
                )
                some = answer.get("Messages", ())
                if not some:
                    break
                found += [Message(one["Body"], {}, one["ReceiptHandle"]) for one in some]
        return found

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._translated():
            for start in range(0, len(messages), BATCH):
                self._delete([one.receipt for one in messages[start : start + BATCH]])

    def probe(self) -> None:
        with self._translated():
            self._client.receive_message(
                QueueUrl=self.address, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=0
            )
            self._delete([NO_RECEIPT])

    def _delete(self, receipts: Sequence[str]) -> None:
        entries = [{"Id": str(n), "ReceiptHandle": one} for n, one in enumerate(receipts)]
        # Of each that is gone, or was given out anew, it tells in its answer: that is fine.
        self._client.delete_message_batch(QueueUrl=self.address, Entries=entries)

    @property
    def _client(self) -> Any:
        """Give the client, made once: a tick comes every few seconds."""
        if self._made is None:
            self._made = self._new_client()
        return self._made

    def _new_client(self) -> Any:
        from botocore.config import Config  # half a second
        from botocore.session import Session

        check_keys()
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"max_attempts": 1, "mode": "standard"},
        )
        session = Session()
        if self.role_arn:
            session = session_in_role(
                session, self.role_arn, self.external_id, self.region_name, config
            )
        return session.create_client(
            "sqs",
            region_name=self.region_name or None,
            endpoint_url="{0.scheme}://{0.netloc}".format(urlsplit(self.address)),
            config=config,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what botocore raises into our errors; the next use has a client of its own.

        Credentials in a file may have been renewed.
        """
        import botocore.exceptions as aws
        from botocore.parsers import ResponseParserError

        try:
            yield
        except (
            CredentialsError,
            aws.BotoCoreError,
            aws.ClientError,
            ResponseParserError,
            ValueError,
        ) as error:
            self._made = None
            raise _error(self.address, error) from error


def region_of(address: str) -> str:
    """Give the region that an SQS queue's URL names; empty where it names none."""
    host = urlsplit(address).hostname or ""
    named = re.search(
        r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.|api\.aws$)"
        r"|^([a-z0-9-]+)\.queue\.amazonaws\.",
        host,
    )
    return (named[1] or named[2]) if named else ""


def arn_of(address: str, region: str) -> str:
    """Give the ARN of a queue by its URL; ``region`` is where the URL names none."""
    region = region_of(address) or region or "us-east-1"
    account, _, name = urlsplit(address).path.strip("/").rpartition("/")
    begin = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
    partition = next((one for head, one in begin.items() if region.startswith(f"{head}-")), "aws")
    return f"arn:{partition}:sqs:{region}:{account.rpartition('/')[2]}:{name}"


_ABSENT = ("NonExistentQueue", "QueueDoesNotExist")
_LATER = ("Throttl", "OverLimit", "ServiceUnavailable", "InternalError", "InternalFailure")
_WRONG_CREDENTIALS = {401, 403}
_SERVER_ERROR = 500


def _error(address: str, error: Exception) -> QueueError:
    import botocore.exceptions as aws

    if isinstance(error, aws.ClientError):
        return _refusal(address, error)
    if isinstance(error, CredentialsError):
        kinds: dict[type, type[QueueError]] = {
            BucketAccessError: QueueAccessError,
            BucketUnavailableError: QueueUnavailableError,
        }
        return kinds.get(error.kind, QueueError)(address, str(error))
    said = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, (aws.HTTPClientError, aws.ConnectionError)):
        return QueueUnavailableError(
            address, f"SQS does not answer ({said}); check the network, and the queue's URL."
        )
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return QueueAccessError(
            address,
            f"there are no AWS credentials ({said}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role.",
        )
    if isinstance(error, aws.NoRegionError):
        return QueueError(address, "no region is known; set region_name or AWS_DEFAULT_REGION.")
    return QueueError(address, f"SQS can't be asked ({said}); correct it.")


def _refusal(address: str, error: Any) -> QueueError:
    told = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(told.get("Code", ""))
    said = ": ".join(filter(None, (code, told.get("Message")))).rstrip(".") or f"status {status}"
    if any(one in code for one in _ABSENT):
        return QueueError(address, "the queue does not exist; create it, or correct its URL.")
    if any(one in code for one in _LATER) or status >= _SERVER_ERROR:
        return QueueUnavailableError(
            address, f"SQS can't answer now ({code or status}); try again."
        )
    if "AccessDenied" in code or "Token" in code or status in _WRONG_CREDENTIALS:
        return QueueAccessError(
            address,
            f"access is refused ({said}); allow the credentials sqs:ReceiveMessage and "
            "sqs:DeleteMessage on it.",
        )
    return QueueError(address, f"SQS refused ({said}).")

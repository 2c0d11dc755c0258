"""Pub/Sub subscriptions, over Google's client from the extra ``pubsub``."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.batches import batches
from ls_pipeline.domain.errors import QueueError, QueueUnavailableError
from ls_pipeline.domain.events import LARGEST_BODY, Message
from ls_pipeline.resources.failures import NO_ACCESS, cause_of, queue_error
from ls_pipeline.resources.gcs.errors import PUBSUB, failure, handled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH = 1000
"""Messages per request, at most."""

ANSWER_SECONDS = 5.0
"""Timeout of a request that waits for nothing."""

MORE_SECONDS = 0.2
"""How long to wait for further messages after the first."""

CONSUME = "pubsub.subscriptions.consume"


@dataclass
class PubSubQueue:
    """One Pub/Sub subscription; implements ``Queue``.

    With PUBSUB_EMULATOR_HOST set, it is an emulator's, without credentials.
    """

    address: str

    def receive(self, most: int, wait: float) -> list[Message]:
        from google.api_core.exceptions import DeadlineExceeded

        messages: list[Message] = []
        until = time.monotonic() + wait
        while len(messages) < most and time.monotonic() < until:  # answers may be incomplete
            limit = min(most - len(messages), BATCH)
            request = {"subscription": self.address, "max_messages": limit}
            timeout = MORE_SECONDS if messages else wait
            with self._translated():
                try:
                    answer = self._client.pull(request=request, timeout=timeout, retry=None)
                except DeadlineExceeded:  # no message arrived
                    break
            messages += [
                Message(
                    received.message.data[: LARGEST_BODY + 1].decode(errors="replace"),
                    dict(received.message.attributes),
                    received.ack_id,
                )
                for received in answer.received_messages
            ]
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._translated():
            for batch in batches(messages, BATCH):
                ids = [message.receipt for message in batch]
                request = {"subscription": self.address, "ack_ids": ids}
                self._client.acknowledge(request=request, timeout=ANSWER_SECONDS, retry=None)

    def probe(self) -> None:
        request = {"resource": self.address, "permissions": [CONSUME]}
        with self._translated():
            answer = self._client.test_iam_permissions(request=request, timeout=ANSWER_SECONDS)
        if CONSUME not in answer.permissions:
            missing = NO_ACCESS.of(PUBSUB, f"the account lacks {CONSUME}")
            raise queue_error(self.address, missing)

    def destination(self) -> str:
        request = {"subscription": self.address}
        with self._translated():
            answer = self._client.get_subscription(request=request, timeout=ANSWER_SECONDS)
        return str(answer.topic)

    @cached_property
    def _client(self) -> Any:
        """The client, created once: a tick comes every few seconds."""
        if find_spec("google.pubsub_v1") is None:
            raise QueueError(
                self.address,
                "Google's client for Pub/Sub is not installed.",
                hint="Run pip install 'ls-pipeline[pubsub]'.",
            )
        return _new_client(self.address)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what Google's client raises into our errors, and drop the client.

        Credentials in a file may have been renewed by the next request.
        """
        try:
            yield
        except handled() as error:
            if client := vars(self).pop("_client", None):
                client.close()
            found = failure(error, PUBSUB)
            raise queue_error(self.address, found) from cause_of(error, found)


def _new_client(address: str) -> Any:
    """Return a connected client; one without a connection would wait silently."""
    from google.cloud.pubsub_v1 import SubscriberClient  # a second
    from grpc import FutureTimeoutError, channel_ready_future

    client = SubscriberClient()
    try:
        channel_ready_future(client.transport.grpc_channel).result(ANSWER_SECONDS)
    except FutureTimeoutError as error:
        client.close()
        raise QueueUnavailableError(
            address, "Pub/Sub does not answer.", hint=f"Check the network, and {PUBSUB.address}."
        ) from error
    return client

"""Pub/Sub subscriptions, over Google's client; the extra ``pubsub`` brings that."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import QueueAccessError, QueueError, QueueUnavailableError
from ls_pipeline.domain.events import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ls_pipeline.settings.model import Source

BATCH = 1000
"""Messages that a request gives or takes at most."""

ANSWER_SECONDS = 5.0
"""What a request may take that has nothing to wait for."""

MORE_SECONDS = 0.2
"""How long to wait for further messages once some have come."""

CONSUME = "pubsub.subscriptions.consume"


@dataclass
class PubSubQueue:
    """One Pub/Sub subscription; keeps the promises of ``Queue``.

    With PUBSUB_EMULATOR_HOST set it is an emulator's, and takes no credentials.
    """

    address: str
    _made: Any = field(default=None, init=False, repr=False)

    @classmethod
    def from_source(cls, source: Source) -> PubSubQueue:
        """Give the subscription that a source names; nothing is asked of it yet."""
        return cls(source.params.notifications)

    def receive(self, most: int, wait: float) -> list[Message]:
        from google.api_core.exceptions import DeadlineExceeded

        found: list[Message] = []
        until = time.monotonic() + wait
        while len(found) < most and time.monotonic() < until:  # an answer may have few of many
            wanted = {"subscription": self.address, "max_messages": min(most - len(found), BATCH)}
            patience = MORE_SECONDS if found else wait
            with self._translated():
                try:
                    answer = self._client.pull(request=wanted, timeout=patience, retry=None)
                except DeadlineExceeded:  # nothing came
                    break
            found += [
                Message(
                    one.message.data.decode(errors="replace"),
                    dict(one.message.attributes),
                    one.ack_id,
                )
                for one in answer.received_messages
            ]
        return found

    def acknowledge(self, messages: Sequence[Message]) -> None:
        with self._translated():
            for start in range(0, len(messages), BATCH):
                ids = [one.receipt for one in messages[start : start + BATCH]]
                wanted = {"subscription": self.address, "ack_ids": ids}
                self._client.acknowledge(request=wanted, timeout=ANSWER_SECONDS, retry=None)

    def probe(self) -> None:
        wanted = {"resource": self.address, "permissions": [CONSUME]}
        with self._translated():
            told = self._client.test_iam_permissions(request=wanted, timeout=ANSWER_SECONDS)
        if CONSUME not in told.permissions:
            raise _refused(self.address, f"the account lacks {CONSUME}")

    def topic(self) -> str:
        """Name the topic that it subscribes to; it takes a permission that nothing else needs."""
        wanted = {"subscription": self.address}
        with self._translated():
            return str(self._client.get_subscription(request=wanted, timeout=ANSWER_SECONDS).topic)

    @property
    def _client(self) -> Any:
        """Give the client, made once: a tick comes every few seconds."""
        if self._made is None:
            if not _is_installed():
                raise QueueError(
                    self.address,
                    "Google's client for Pub/Sub is not installed; run "
                    "pip install 'ls-pipeline[pubsub]'.",
                )
            self._made = _new_client(self.address)
        return self._made

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what Google's client raises into our errors; the next use has a client of its own.

        Credentials in a file may have been renewed.
        """
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, ValueError, OSError) as error:
            if self._made is not None:
                self._made.close()
                self._made = None
            raise _error(self.address, error) from error


def _new_client(address: str) -> Any:
    """Make a client that has reached the service: one that reaches nobody would wait in silence."""
    from google.cloud.pubsub_v1 import SubscriberClient  # a second
    from grpc import FutureTimeoutError, channel_ready_future

    client = SubscriberClient()
    try:
        channel_ready_future(client.transport.grpc_channel).result(ANSWER_SECONDS)
    except FutureTimeoutError as error:
        client.close()
        raise QueueUnavailableError(
            address, "Pub/Sub does not answer; check the network, and PUBSUB_EMULATOR_HOST, if set."
        ) from error
    return client


def _is_installed() -> bool:
    return find_spec("google.pubsub_v1") is not None


def _error(address: str, error: Exception) -> QueueError:
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError, TransportError

    said = str(getattr(error, "message", "") or error).strip().rstrip(".")
    if isinstance(error, api.NotFound):
        return QueueError(address, "the subscription does not exist; create it, or correct it.")
    if isinstance(error, (api.Forbidden, api.Unauthorized)):
        return _refused(address, said)
    if isinstance(error, (api.ServerError, api.TooManyRequests, api.RetryError, TransportError)):
        return QueueUnavailableError(address, f"Pub/Sub does not answer ({said}); try again.")
    if isinstance(error, GoogleAuthError):
        return QueueAccessError(
            address,
            f"there are no usable Google credentials ({said}); set GOOGLE_APPLICATION_CREDENTIALS, "
            "or give the machine a service account.",
        )
    return QueueError(address, f"Pub/Sub refused ({said}).")


def _refused(address: str, said: str) -> QueueAccessError:
    return QueueAccessError(
        address,
        f"access is refused ({said}); give the account roles/pubsub.subscriber on it.",
    )

"""The protocol of a queue of bucket notifications. `s3/sqs.py` and `gcs/pubsub.py` implement it.

``tests/contracts/test_queue.py`` holds every implementation to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ls_pipeline.resources.client_cache import OncePerKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ls_pipeline.domain.events import Message
    from ls_pipeline.settings.model import Source


class Queue(Protocol):
    """An SQS queue, or a Pub/Sub subscription.

    It delivers each message at least once, in any order, and again after a while unless the
    message was acknowledged. Every method may raise ``QueueError``, ``QueueAccessError``
    (credentials missing, wrong, or without a permission) or ``QueueUnavailableError``.
    """

    @property
    def address(self) -> str:
        """The queue's URL, or the subscription's name."""

    def receive(self, most: int, wait: float) -> list[Message]:
        """Return up to ``most`` messages, as soon as there are any; none after ``wait`` seconds.

        It takes little more than twice ``wait``, however many messages there are.
        """

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Have these messages not delivered again; an expired delivery is fine."""

    def probe(self) -> None:
        """Try the permissions of `receive` and `acknowledge` without taking a message."""

    def destination(self) -> str:
        """Return what a bucket's notifications name as their target: queue ARN, or topic.

        For a subscription it needs a permission that the other methods do not need.
        """


class QueueOpener:
    """Opens the queues that sources name, each once. Safe to use from several threads.

    ``new_session`` returns a botocore session with the credentials for SQS; by default, those that
    AWS's tools find.
    """

    def __init__(self, new_session: Callable[[], Any] | None = None) -> None:
        self._new_session = new_session
        self._queues = OncePerKey[tuple[str, ...], Queue]()

    def open(self, source: Source) -> Queue:
        """Return the queue of a source that names one, without a request to it.

        Its region and role are those of the source's bucket, if the source names them.
        """
        params = source.params
        key = (params.notifications, params.region_name, params.role_arn, params.external_id)
        return self._queues.get(key, lambda: self._open(source))

    def _open(self, source: Source) -> Queue:
        params = source.params
        if source.cloud == "s3":
            from ls_pipeline.resources.s3.sqs import SQSQueue

            role = params.role_arn, params.external_id
            return SQSQueue(params.notifications, params.region_name, *role, self._new_session)
        from ls_pipeline.resources.gcs.pubsub import PubSubQueue

        return PubSubQueue(params.notifications)

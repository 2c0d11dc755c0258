"""A queue of a bucket's notifications, with its promises in words. `sqs.py`, `pubsub.py` keep them.

``tests/contracts/test_queue.py`` holds every implementation to them.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.domain.events import Message
    from ls_pipeline.settings.model import Source


class Queue(Protocol):
    """An SQS queue, or a Pub/Sub subscription.

    It gives a message at least once, in any order, and again after a while unless that was
    acknowledged. Every method may raise ``QueueError``, ``QueueAccessError`` (credentials
    missing, wrong or not enough) or ``QueueUnavailableError``.
    """

    @property
    def address(self) -> str:
        """The queue's URL, or the subscription's name."""
        ...

    def receive(self, most: int, wait: float) -> list[Message]:
        """Give up to ``most`` messages: as soon as there are some, none after ``wait`` seconds.

        It takes little more than twice that, however many there are.
        """
        ...

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Have these messages not come again; one that came again meanwhile is fine."""
        ...

    def probe(self) -> None:
        """Try what the other two need, and take nothing out."""
        ...


class QueueOpener:
    """The queues that sources name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened: dict[tuple[str, ...], Queue] = {}

    def open(self, source: Source) -> Queue:
        """Give the queue of a source that names one; nothing is asked of it yet.

        It is reached as the source's bucket is: in its region and role, if it has one.
        """
        params = source.params
        how = (params.notifications, params.region_name, params.role_arn, params.external_id)
        with self._lock:
            if how not in self._opened:
                self._opened[how] = _opened(source)
            return self._opened[how]


def _opened(source: Source) -> Queue:
    if source.cloud == "s3":
        from ls_pipeline.resources.s3.sqs import SQSQueue  # only where it is used

        return SQSQueue.from_source(source)
    from ls_pipeline.resources.gcs.pubsub import PubSubQueue

    return PubSubQueue.from_source(source)

"""A queue of a bucket's notifications, with its promises in words. `sqs.py`, `pubsub.py` keep them.

``tests/contracts/test_queue.py`` holds every implementation to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ls_pipeline.domain.events import Message


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

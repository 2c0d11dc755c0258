"""Which queue a source names: each is opened once."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ls_pipeline.resources.queue import Queue
    from ls_pipeline.settings.model import Source


class Queues:
    """The queues that sources name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened: dict[tuple[str, ...], Queue] = {}

    def of(self, source: Source) -> Queue:
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

        return SQSQueue.of(source)
    from ls_pipeline.resources.gcs.pubsub import PubSubQueue

    return PubSubQueue.of(source)

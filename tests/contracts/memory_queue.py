"""A queue in memory that passes the same suite as the real ones."""

from __future__ import annotations

import itertools
import time

from ls_pipeline.domain.errors import QueueError
from ls_pipeline.domain.events import Message
from ls_pipeline.resources.s3.sqs import arn_of

HIDDEN_SECONDS = 2.0
"""Time after which an unacknowledged message is delivered again."""


class MemoryQueue:
    def __init__(self, address="memory", *, exists=True, hidden=HIDDEN_SECONDS):
        self.address = address
        self.exists = exists
        self.hidden = hidden
        self._waiting = {}
        self._numbers = itertools.count(1)

    def send(self, body, **attributes):
        self._waiting[next(self._numbers)] = (Message(body, attributes, ""), 0.0)

    def __len__(self):
        return len(self._waiting)

    def receive(self, most, wait):
        self._check()
        now = time.monotonic()
        ready = [number for number, (_, hidden) in self._waiting.items() if hidden <= now]
        return [self._deliver(number) for number in ready[:most]]

    def _deliver(self, number):
        message, _ = self._waiting[number]
        self._waiting[number] = (message, time.monotonic() + self.hidden)
        return message._replace(receipt=str(number))

    def acknowledge(self, messages):
        self._check()
        for message in messages:
            self._waiting.pop(int(message.receipt), None)

    def probe(self):
        self._check()

    def destination(self):
        return arn_of(self.address, "")

    def _check(self):
        if not self.exists:
            raise QueueError(self.address, "the queue does not exist.", hint="Create it.")

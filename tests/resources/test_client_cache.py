import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from ls_pipeline.resources.client_cache import SECONDS, OncePerKey, TTLCache


class Cycle:
    """Refers to itself, as clients do."""

    def __init__(self):
        self.itself = self


def test_value_is_replaced_and_freed_after_its_lifetime():
    now = [0.0]
    cache = TTLCache(Cycle, lambda: now[0])
    first = weakref.ref(cache.get())
    now[0] = SECONDS - 1
    same = cache.get() is first()
    now[0] = SECONDS
    second = cache.get()

    assert (same, first()) == (True, None)
    assert cache.get() is second


def test_value_of_a_key_is_created_once():
    values, numbers, start = OncePerKey(), itertools.count(), threading.Barrier(8)

    def get(key):
        start.wait()
        return values.get(key, lambda: (key, next(numbers)))

    with ThreadPoolExecutor(8) as threads:
        results = set(threads.map(get, "aabbaabb"))

    assert sorted(results) in ([("a", 0), ("b", 1)], [("a", 1), ("b", 0)])


def test_value_that_takes_long_holds_up_no_other_key():
    values, ends = OncePerKey(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(values.get, "a", lambda: ends.wait(60))
        other = values.get("b", lambda: 2)
        ends.set()

    assert (slow.result(), other) == (True, 2)


def test_value_that_could_not_be_created_is_tried_again():
    values = OncePerKey()
    with pytest.raises(ZeroDivisionError):
        values.get("a", lambda: 1 / 0)

    assert values.get("a", lambda: 2) == 2

import threading

import pytest

from ls_pipeline.engine.parallel import AHEAD, THREADS, in_parallel


def test_results_come_in_order_and_few_items_ahead():
    asked = []

    def items():
        for number in range(1000):
            asked.append(number)
            yield number

    results = in_parallel(items(), lambda number: 2 * number)

    assert next(results) == (0, 0)
    assert len(asked) <= AHEAD + 2
    assert list(results) == [(number, 2 * number) for number in range(1, 1000)]


def test_items_are_worked_on_together():
    together = threading.Barrier(THREADS, timeout=30)

    assert len(list(in_parallel(range(THREADS), lambda _: together.wait()))) == THREADS


def test_error_passes_and_stops_the_rest():
    done = []

    def work(number):
        if number == 3:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ValueError, match="3"):
        list(in_parallel(range(10_000), work))

    assert len(done) < 10_000

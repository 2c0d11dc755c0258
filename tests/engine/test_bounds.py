"""The time limit of a run: it ends, what it did is recorded, and the next run continues."""

import pytest

from ls_pipeline.domain.errors import RunTooLongError
from ls_pipeline.engine import import_queue
from ls_pipeline.resources.ledger.lease import Fence
from tests.bench import RESULT

OBJECTS = 20


class Limited:
    """Ends a run's time when it asks for the n-th time."""

    def __init__(self, monkeypatch):
        self.left = None
        monkeypatch.setattr(Fence, "is_too_old", property(lambda _: self._is_over()))

    def _is_over(self):
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


@pytest.fixture
def limited(monkeypatch):
    monkeypatch.setattr(import_queue, "BATCH_ROWS", 5)
    return Limited(monkeypatch)


@pytest.mark.parametrize("work", ["load", "export", "snapshot"])
def test_run_ends_at_its_limit_and_the_next_one_continues(bench, limited, work):
    for n in range(OBJECTS):
        bench.put(f"{n}.json", {"text": str(n)})
    if work != "load":
        bench.load()
        for task_id in bench.app.tasks:
            bench.app.annotate(task_id, RESULT)
    ended = 0
    for limit in range(400):
        limited.left = limit
        try:
            getattr(bench, work)()
        except RunTooLongError:
            ended += 1
        else:
            break
    limited.left = None
    bench.load()
    bench.export()

    assert ended > 1
    assert len(bench.tasks) == OBJECTS
    assert sum("/" not in key for key in bench.files) == (0 if work == "load" else OBJECTS)

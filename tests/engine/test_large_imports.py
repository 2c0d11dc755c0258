"""A proxy in front of Label Studio that takes only small requests (413)."""

import json

from ls_pipeline.domain.errors import TasksRefusedError
from ls_pipeline.resources.label_studio.imports import refusal
from tests.engine.test_load import Wrapped

LIMIT = 3000
"""Bytes of an import that the proxy lets through."""


def behind_proxy(bench):
    """Return an app behind a proxy, and the sizes of the imports that it was sent."""
    sizes = []

    def import_tasks(project_id, tasks):
        sizes.append(len(json.dumps(list(tasks))))
        if sizes[-1] > LIMIT:
            raise TasksRefusedError("too large (413).", {}, too_large=True, hint="Raise it.")
        return bench.app.import_tasks(project_id, tasks)

    return Wrapped(bench.app, import_tasks=import_tasks), sizes


def test_imports_become_small_enough_and_stay_so(bench, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.import_queue.BATCH_ROWS", 20)
    for n in range(60):
        bench.put(f"{n:02}.json", {"text": f"{n} " + "x" * 100})
    app, sizes = behind_proxy(bench)
    result = bench.load(app=app)
    refused = [n for n, size in enumerate(sizes) if size > LIMIT]

    assert (result.tasks_created, len(bench.tasks)) == (60, 60)
    assert len(refused) <= 3
    assert max(refused) < 5


def test_row_that_no_proxy_takes_goes_to_quarantine_with_the_reason(bench):
    bench.put("a.json", [{"text": "a"}, {"text": "x" * LIMIT}, {"text": "c"}])
    app, _ = behind_proxy(bench)
    bench.load(app=app)
    (item,) = bench.connection_ledger.objects.quarantined()

    assert (len(bench.tasks), item.reason) == (2, "too large (413). Raise it.")


def test_refusal_says_whose_limit_it_may_be():
    error = refusal(Answer(), 20)

    assert error.too_large
    assert str(error) == (
        "20 tasks are too large for Label Studio, or for a server in front of it (413). Have it "
        "accept larger requests, as with nginx's client_max_body_size."
    )


class Answer:
    """A proxy's."""

    status_code = 413

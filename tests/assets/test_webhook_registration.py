"""The webhook that a run registers in Label Studio."""

import pytest

from ls_pipeline.assets import run as asset_run
from ls_pipeline.domain.errors import LabelStudioError
from ls_pipeline.resources.environment import webhook_secret
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG
from tests.engine.test_load import Wrapped

URL = "https://labels.example.com/hooks"


@pytest.fixture
def reachable(environment):
    environment.setenv("LS_PIPELINE_WEBHOOK_URL", URL)


def register_webhooks(bench, app=None):
    project = bench.app.create_project("Reviews", CONFIG)
    with bench.run(bench.target, app) as run:
        return asset_run.register_webhooks(run, [project.id])


def test_run_registers_the_connections_own_webhook(bench, reachable):
    assert register_webhooks(bench) == []
    assert bench.app.webhooks == {(1, f"{URL}/connections/reviews"): webhook_secret()}


def test_no_webhook_is_registered_without_a_receiver(bench):
    assert (register_webhooks(bench), bench.app.webhooks) == ([], {})


def test_no_webhook_is_registered_without_a_target(bench, reachable):
    source = {"type": "s3", "path": "bucket"}
    one = build_connection(
        "reviews", source=source, target=None, project="Reviews", label_config=CONFIG
    )
    bench.ledger.save(one, "test")

    assert (register_webhooks(bench), bench.app.webhooks) == ([], {})


def test_refusal_is_a_note_and_no_failure(bench, reachable):
    def refuse(*_):
        raise LabelStudioError("Label Studio refuses to call it.")

    assert register_webhooks(bench, Wrapped(bench.app, register_webhook=refuse)) == [
        "Label Studio refuses to call it."
    ]

"""Settings of any form are a connection, or an error with every reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ls_pipeline.domain.errors import InvalidConnectionError, StoredSettingsError
from ls_pipeline.engine.detect import snapshot_is_due
from ls_pipeline.resources.ledger.records import SnapshotState
from ls_pipeline.resources.ledger.settings import parse_settings
from ls_pipeline.settings.model import Connection, Target
from ls_pipeline.settings.params import MOST_MINUTES, TargetParams
from ls_pipeline.settings.validation import build_connection, parse_params
from tests.strategies import ANY_JSON, NUMBERS, TEXTS, like

params = like(
    prefix=TEXTS,
    regex=st.sampled_from(["(", "a", "\ud800", "\0"]),
    endpoint_url=st.sampled_from(["http://[", "http://a", "ftp://a"]),
    data_key=TEXTS,
    tasks_per_project=NUMBERS,
    notifications=TEXTS,
    snapshot_cron=st.sampled_from(["0 0 31 2 *", "* * * * *", "0 6 * * 1-5\0"]),
    snapshot_minutes=NUMBERS,
    validation_share=NUMBERS,
    formats=st.lists(TEXTS, max_size=2),
)
sides = st.none() | like(type=st.sampled_from(["s3", "gcs-completions"]), path="b", params=params)
configs = st.sampled_from(["", "<View/>", "<a", '<Text name="t" value="$\ud800"/>', "\0"]) | TEXTS
documents = like(name="c", source=sides, target=sides, project="Reviews", enabled=True)


@given(TEXTS, sides, sides, TEXTS, configs)
@settings(max_examples=60)
def test_any_settings_are_a_connection_or_refused(name, source, target, project, label_config):
    try:
        connection = build_connection(
            name, source=source, target=target, project=project, label_config=label_config
        )
    except InvalidConnectionError as error:
        assert error.errors  # noqa: PT017
    else:
        document = json.loads(connection.model_dump_json())
        assert parse_settings(name, 1, document) == connection


@given(documents)
@settings(max_examples=60)
def test_any_stored_settings_are_a_connection_or_refused(document):
    assert isinstance(parse_settings("c", 1, document), (Connection, StoredSettingsError))


@given(TEXTS | ANY_JSON.map(json.dumps) | st.just("[" * 100_000))
def test_any_params_of_the_command_line_are_parsed_or_refused(text):
    errors = []

    assert parse_params("--source-params", text, errors) == {} or not errors


NUMBERS_OF_TARGETS = ["snapshot_minutes", "snapshots_kept", "snapshots_kept_days"]
NUMBERS_OF_TARGETS += ["labels_within_days"]


@pytest.mark.parametrize("param", NUMBERS_OF_TARGETS)
@pytest.mark.parametrize("value", [2**63, 10**18, float("nan"), -1])
def test_number_that_no_time_or_column_can_hold_is_refused(param, value):
    target = {"type": "s3-completions", "path": "b", "params": {param: value}}

    with pytest.raises(InvalidConnectionError, match=param):
        build_connection("c", source=None, target=target, project="Reviews")


@pytest.mark.parametrize("minutes", [0, MOST_MINUTES])
def test_longest_interval_is_one_that_can_be_added(minutes):
    target = Target(type="s3-completions", path="b", params=TargetParams(snapshot_minutes=minutes))

    assert snapshot_is_due(SnapshotState(2, 1, 2e9, ""), target, 2e9) is (minutes == 0)

"""Variables with unusable values are named in a sentence."""

from __future__ import annotations

import json

import pytest

from ls_pipeline.definitions import defs
from ls_pipeline.domain.errors import InvalidVariableError
from ls_pipeline.resources.environment import (
    asset_owners,
    create_home,
    read_local_label_studio,
    webhook_secret,
    webhook_url,
)

READERS = {
    "LS_PIPELINE_OWNERS": (asset_owners, ["labeling", "team:", "a@b", ",", "team:a, "]),
    "LS_PIPELINE_WEBHOOK_URL": (
        webhook_url,
        ["host:80", "ftp://a", "http://", "http://a?b", "a b"],
    ),
    "LS_PIPELINE_WEBHOOK_SECRET": (webhook_secret, ["ü", "a\nb", "a\tb"]),
    "LS_PIPELINE_POLL_SECONDS": (defs, ["0", "-5", "x", "1.5", "9" * 5000, "１"]),  # noqa: RUF001
    "LS_PIPELINE_NOTIFICATION_SECONDS": (defs, ["0", "1e3"]),
    "LS_PIPELINE_GC_THRESHOLD": (defs, ["-1", str(2**31)]),
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, (_, values) in READERS.items() for value in values],
    ids=lambda text: text[:30],
)
def test_unusable_value_names_its_variable(environment, variable, value):
    environment.setenv(variable, value)

    with pytest.raises(InvalidVariableError, match=f"^{variable} ") as error:
        READERS[variable][0]()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, "5", '{"url": 5}', '{"url": "u"}'])
def test_damaged_address_of_the_home_is_none(environment, content):
    (create_home() / "label-studio.json").write_text(content)

    assert read_local_label_studio() is None


def test_address_of_the_home_is_read(environment):
    address = {"url": "http://a", "api_key": "k", "webhooks": ""}
    (create_home() / "label-studio.json").write_text(json.dumps(address))

    assert read_local_label_studio().url == "http://a"

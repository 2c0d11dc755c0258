"""Variables with unusable values are named in a sentence."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from ls_pipeline.cli.context import CliContext, create_dagster_home
from ls_pipeline.definitions import defs
from ls_pipeline.domain.errors import InvalidVariableError, PipelineError
from ls_pipeline.resources.environment import (
    asset_owners,
    create_home,
    database_url,
    home,
    label_studio_address,
    label_studio_headers,
    label_studio_public_url,
    read_local_label_studio,
    store_seconds,
    unusable_variables,
    webhook_secret,
    webhook_url,
)
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.s3.bucket import S3Buckets

VARIABLES = Path(__file__).parents[2] / "docs" / "variables.md"

WRONG_URLS = ["x", "8080", "localhost:8080", "http://", "ftp://a", "http://a:b", "http://a:99999"]

READERS = {
    "LS_PIPELINE_OWNERS": (asset_owners, ["labeling", "team:", "a@b", ",", "team:a, "]),
    "LS_PIPELINE_WEBHOOK_URL": (
        webhook_url,
        ["host:80", "ftp://a", "http://", "http://a?b", "a b"],
    ),
    "LS_PIPELINE_WEBHOOK_SECRET": (webhook_secret, ["ü", "a\nb", "a\tb"]),
    "LS_PIPELINE_POLL_SECONDS": (defs, ["0", "-5", "x", "1.5", "9" * 5000, "１"]),  # noqa: RUF001
    "LS_PIPELINE_NOTIFICATION_SECONDS": (defs, ["0", "1e3"]),
    "LS_PIPELINE_STORE_SECONDS": (store_seconds, ["0", "-5", "x"]),
    "LS_PIPELINE_GC_THRESHOLD": (defs, ["-1", str(2**31)]),
    "LABEL_STUDIO_URL": (label_studio_address, WRONG_URLS),
    "LABEL_STUDIO_HEADERS": (label_studio_headers, ["x", "{", "[]", "a: é", "Host: a", '{"a": 5}']),
    "LABEL_STUDIO_PUBLIC_URL": (partial(label_studio_public_url, ""), WRONG_URLS),
}


def _label_studio_on_https():
    return LabelStudio(url="https://labels.invalid", api_key="k").version()


NAMED = {
    "LS_PIPELINE_DATABASE_URL": (
        lambda: Ledger(database_url()),
        ["x", "mysql://h/d", "postgresql+psycopg://h:port/d", "sqlite:///~/ledger.db"],
    ),
    "LS_PIPELINE_HOME": (lambda: Ledger(database_url()), ["/dev/null/home", "~nobody-here/home"]),
    "DAGSTER_HOME": (lambda: CliContext().instance, ["/dev/null/dagster", "~nobody-here/d"]),
    "AWS_ENDPOINT_URL": (lambda: S3Buckets().open("b"), WRONG_URLS),
    "AWS_ENDPOINT_URL_STS": (lambda: S3Buckets().open("b"), WRONG_URLS),
    "AWS_ACCESS_KEY_ID": (lambda: S3Buckets().open("b"), ["a\nb", "é"]),
    "AWS_CA_BUNDLE": (lambda: S3Buckets().open("b"), ["absent", "~/absent"]),
    "REQUESTS_CA_BUNDLE": (lambda: GCSBuckets().open("b"), ["absent", "~/absent"]),
    "SSL_CERT_FILE": (LabelStudio(api_key="k").version, ["absent", "/dev/null"]),
    "HTTP_PROXY": (LabelStudio(api_key="k").version, ["gopher://proxy", "http://127.0.0.1:9"]),
    "HTTPS_PROXY": (_label_studio_on_https, ["gopher://proxy", "http://127.0.0.1:9"]),
    "AWS_PROFILE": (lambda: S3Buckets().open("b"), ["absent"]),
    "STORAGE_EMULATOR_HOST": (lambda: GCSBuckets().open("b"), WRONG_URLS),
    "GOOGLE_APPLICATION_CREDENTIALS": (lambda: GCSBuckets().open("b"), ["absent", "/dev/null"]),
    "LABEL_STUDIO_API_KEY": (LabelStudio().version, ["a b", "a\n", "é"]),
    "LABEL_STUDIO_GOOGLE_CREDENTIALS": (LabelStudio()._google_credentials, ["absent", "/bin/sh"]),
}
"""Those whose error is about what they name; it says which variable to correct."""

NOT_PARSED = {"GOOGLE_CLOUD_PROJECT", "PUBSUB_EMULATOR_HOST", "NO_PROXY"}
"""Those that no value of can be told from a right one without a server."""


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


@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, (_, values) in NAMED.items() for value in values],
    ids=lambda text: text[:30],
)
def test_failure_because_of_a_variable_names_it(environment, variable, value):
    environment.setenv(variable, value)

    with pytest.raises(PipelineError, match=rf"\b{variable}\b") as error:
        NAMED[variable][0]()
    assert len(str(error.value)) < 400


def test_every_variable_of_the_docs_is_tested():
    rows = re.findall(r"^\| (`.*)", VARIABLES.read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}

    assert documented == READERS.keys() | NAMED.keys() | NOT_PARSED


@pytest.mark.parametrize("variable", ["LS_PIPELINE_HOME", "DAGSTER_HOME"])
@pytest.mark.parametrize("value", ["here", "~/here"])
def test_path_is_made_whole_before_anything_is_made(environment, tmp_path, variable, value):
    environment.setenv("HOME", str(tmp_path))
    environment.chdir(tmp_path)
    environment.setenv(variable, value)
    folder = {"LS_PIPELINE_HOME": create_home, "DAGSTER_HOME": create_dagster_home}[variable]()

    assert folder == tmp_path / "here"
    assert not (tmp_path / "~").exists()


def test_doctor_reports_every_variable_that_can_not_be_parsed(environment):
    environment.setenv("LS_PIPELINE_POLL_SECONDS", "30s")
    environment.setenv("LS_PIPELINE_GC_THRESHOLD", "many")

    assert [str(error) for error in unusable_variables()] == [
        "LS_PIPELINE_POLL_SECONDS is '30s', not a whole number from 1 to 86400.",
        "LS_PIPELINE_GC_THRESHOLD is 'many', not a whole number from 0 to 2147483647.",
    ]


@pytest.mark.parametrize("content", ["", "[", "[" * 100_000, "5", '{"url": 5}', '{"url": "u"}'])
def test_damaged_address_of_the_home_is_none(environment, content):
    (create_home() / "label-studio.json").write_text(content)

    assert read_local_label_studio() is None


def test_address_of_the_home_is_read(environment):
    address = {"url": "http://a", "api_key": "k", "webhooks": ""}
    (create_home() / "label-studio.json").write_text(json.dumps(address))

    assert read_local_label_studio().url == "http://a"


@pytest.mark.parametrize("value", ["$HOME/x", "%APPDATA%", "'/x'", '"/x"', "/x ", " /x", "/x\r"])
def test_path_that_no_shell_has_read_is_refused(environment, value):
    environment.setenv("LS_PIPELINE_HOME", value)

    with pytest.raises(InvalidVariableError, match="LS_PIPELINE_HOME has a variable, a quotation"):
        home()

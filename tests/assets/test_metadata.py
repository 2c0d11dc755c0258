import dagster as dg
import pytest

from ls_pipeline.assets.metadata import folder_link
from ls_pipeline.settings.model import Target, TargetParams

CONSOLES = {
    "s3-completions": "https://console.aws.amazon.com/s3/buckets/b?prefix=a%20b%2Fc%2F",
    "gcs-completions": "https://console.cloud.google.com/storage/browser/b/a%20b/c/",
}


@pytest.mark.parametrize("kind", CONSOLES)
def test_folder_is_shown_in_its_clouds_console(environment, kind):
    found = folder_link(Target(type=kind, path="b"), "a b/c/")

    assert found == dg.MetadataValue.url(CONSOLES[kind])


@pytest.mark.parametrize(
    ("kind", "variable", "uri"),
    [
        ("s3-completions", "AWS_ENDPOINT_URL", "s3://b/a/"),
        ("s3-completions", "AWS_ENDPOINT_URL_S3", "s3://b/a/"),
        ("gcs-completions", "STORAGE_EMULATOR_HOST", "gs://b/a/"),
    ],
)
def test_other_stores_have_no_console(environment, kind, variable, uri):
    environment.setenv(variable, "http://127.0.0.1:9")

    assert folder_link(Target(type=kind, path="b"), "a/") == dg.MetadataValue.text(uri)


def test_connection_with_its_own_endpoint_has_no_console(environment):
    params = TargetParams(endpoint_url="https://s3.example.com")
    target = Target(type="s3-completions", path="b", params=params)

    assert folder_link(target, "a/") == dg.MetadataValue.text("s3://b/a/")

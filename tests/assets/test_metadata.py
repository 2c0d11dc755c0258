import dagster as dg
import pytest
from hypothesis import given
from markdown_it import MarkdownIt

from ls_pipeline.assets.metadata import folder_link, project_links, table, text
from ls_pipeline.domain.text import visible
from ls_pipeline.resources.labeling_app import Project
from ls_pipeline.settings.model import Target
from ls_pipeline.settings.params import TargetParams
from tests.domain.test_text import TEXTS, controls

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


def tokens(markdown):
    """Yield the kinds and contents of what a page shows, as GitHub's Markdown has it."""
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        yield from ((token.type, token.content) for token in block.children or ())
        if block.type.startswith("html"):
            yield block.type, block.content


@given(TEXTS.filter(lambda title: title.strip(" ")))
def test_title_of_a_project_is_shown_as_it_is(title):
    project = Project(1, title, "", 3, "http://127.0.0.1:8080/projects/1/data", "")
    shown = project_links([project, project])["projects"].md_str

    assert list(tokens(shown)) == 2 * [
        ("link_open", ""),
        ("code_inline", visible(title)),
        ("link_close", ""),
        ("text", ": 3 tasks"),
    ]


@given(TEXTS, TEXTS)
def test_cells_and_lines_control_nothing(key, reason):
    (record,) = table([{"key": key, "row": 1, "reason": reason}]).records

    assert record.data == {"key": visible(key), "row": 1, "reason": visible(reason)}
    assert controls(text(key, reason).value.replace("\n", "", 1)) == []

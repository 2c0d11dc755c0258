import json
from itertools import pairwise

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from ls_pipeline.cli.demo.samples import TEXT_CONFIG
from ls_pipeline.cli.main import main
from ls_pipeline.settings.entries import LARGEST_FILE

GOOD = """\
connections:
  reviews:
    project: Reviews
    label_config_file: reviews.xml
    source: {type: s3, path: my-bucket, params: {prefix: incoming}}
    target: {type: s3-completions, path: my-labels}
  cats:
    enabled: false
    source: {type: gcs, path: pictures, params: {use_blob_urls: true}}
"""


@pytest.fixture
def apply(environment, tmp_path):
    environment.setenv("COLUMNS", "200")
    (tmp_path / "reviews.xml").write_text(TEXT_CONFIG)

    def run(text, *more):
        file = tmp_path / "connections.yaml"
        file.write_text(text)
        return CliRunner().invoke(main, ["connections", "apply", str(file), *more])

    return run


def listed():
    return json.loads(CliRunner().invoke(main, ["connections", "list", "--json"]).stdout)[
        "connections"
    ]


def test_connections_of_a_file_are_stored(apply):
    done = apply(GOOD)
    stored = listed()

    assert done.exit_code == 0, done.output
    assert stored["reviews"]["label_config"] == TEXT_CONFIG
    assert (stored["cats"]["project"], stored["cats"]["enabled"]) == ("cats", False)


def test_changes_of_a_file_are_json_on_demand(apply):
    apply(GOOD)
    report = json.loads(apply(GOOD.replace("incoming", "in"), "--json").stdout)["connections"]

    assert {name: (change["stored"], change["revision"]) for name, change in report.items()} == {
        "reviews": (True, 2),
        "cats": (False, 1),
    }


def test_file_applied_twice_changes_nothing(apply):
    apply(GOOD)

    assert apply(GOOD).stdout.splitlines() == [
        "Connection 'reviews' is unchanged at revision 1.",
        "Connection 'cats' is unchanged at revision 1.",
    ]


def test_changed_file_reports_old_and_new_values(apply):
    apply(GOOD)

    assert (
        "  source.params.prefix: 'incoming' → 'in'" in apply(GOOD.replace("incoming", "in")).stdout
    )


def test_connection_that_a_file_does_not_name_stays(apply):
    apply(GOOD)
    apply(GOOD.partition("  cats:")[0])

    assert list(listed()) == ["cats", "reviews"]


def test_dry_run_stores_nothing(apply):
    apply(GOOD, "--dry-run")

    assert listed() == {}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("reviews: {}", "no mapping `connections:`"),
        ("connections: [", "It can't be read: while parsing"),
        (GOOD + "  cats: {}\n", "a mapping has the same key twice"),
        (GOOD + "more: 1\n", "more: Move it below `connections:`"),
        (GOOD.replace("project:", "projekt:"), "'projekt' (did you mean 'project'?)"),
        (GOOD.replace("prefix:", "prefx:"), "reviews: There is no source param 'prefx'"),
        (GOOD.replace("reviews.xml", "none.xml"), "label_config_file can't be read"),
        (GOOD.replace("enabled: false", "enabled: 7"), "cats: enabled: Input should be"),
        (GOOD.replace("enabled: false", "source: s3"), "a mapping has the same key twice"),
        ("connections: " + "[" * 10_000, "It can't be read: "),
        ("connections: {cats: 2026-99-99}", "It can't be read: "),
        ("connections: {cats: &a {source: *a}}", "cats: There is no source param"),
        ("connections: {cats: {project: !!int x}}", "It can't be read: "),
        ('connections: {cats: {project: "\\ud800xx"}}', "half of a surrogate pair"),
        ("connections: {[a]: {}, 5: {}, ~: {}}", "It can't be read: "),
        (" " * (LARGEST_FILE + 1), "It can't be read: it has more than"),
    ],
)
def test_error_is_reported_and_nothing_is_stored(apply, document, text):
    done = apply(document)

    assert (done.exit_code, listed()) == (2, {})
    assert text in done.stderr


def test_settings_that_several_connections_share_are_written_once(apply):
    done = apply("""
connections:
  cats: &usual
    project: Cats
    source: &source {type: s3, path: pictures, params: {prefix: cats}}
  dogs:
    <<: *usual
    project: Dogs
    source: {<<: *source, params: {prefix: dogs}}
""")

    assert done.exit_code == 0, done.stderr
    assert {name: each["project"] for name, each in listed().items()} == {
        "cats": "Cats",
        "dogs": "Dogs",
    }


def test_settings_may_be_shared_over_several_levels(apply):
    done = apply("""
connections:
  cats: &cats
    project: Cats
    source: {type: s3, path: pictures, params: &cat {<<: &any {regex: .*png}, prefix: cats}}
  dogs:
    <<: *cats
    project: Dogs
    source: {type: s3, path: pictures, params: {<<: *cat, prefix: dogs}}
""")

    assert done.exit_code == 0, done.stderr


def test_all_errors_of_all_connections_are_reported_at_once(apply):
    text = GOOD.replace("prefix:", "prefx:").replace("type: gcs", "type: azure")
    errors = apply(text).stderr.splitlines()[1:]

    assert [error.split(":")[0].strip() for error in errors] == ["reviews", "cats"]


def test_schema_accepts_good_files_and_rejects_bad_ones():
    schema = json.loads(CliRunner().invoke(main, ["connections", "schema"]).stdout)
    checker = jsonschema.Draft202012Validator(schema)
    bad = GOOD.replace("prefix:", "prefx:")

    assert list(checker.iter_errors(yaml.safe_load(GOOD))) == []
    assert list(checker.iter_errors(yaml.safe_load(bad)))


def test_file_without_an_end_is_not_read(environment):
    done = CliRunner().invoke(main, ["connections", "apply", "/dev/zero"])

    assert (done.exit_code, listed()) == (2, {})
    assert "it has more than" in done.stderr


def test_aliases_do_not_grow_in_errors(apply):
    lines = ["a: &a [x, x]"]
    lines += [f"{name}: &{name} [*{last}, *{last}]" for last, name in pairwise("abcdefghijklmno")]
    refused = apply("\n".join([*lines, "connections: {cats: {project: *o, source: {path: *o}}}"]))

    assert refused.exit_code == 2
    assert len(refused.stderr) < 10_000


def test_file_that_stores_nothing_prints_only_its_error_as_json(apply):
    refused = apply("connections: {reviews: {}}", "--json")

    assert json.loads(refused.stdout).keys() == {"error"}

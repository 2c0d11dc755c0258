"""The component, in a project that `dg` works on."""

import socket

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster_dg_cli.cli import cli

from ls_pipeline import LabelingComponent
from ls_pipeline.resources.environment import home
from ls_pipeline.settings.declarations import read_declarations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(  # Dagster's own, in loading components
        "ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"
    ),
]

DOCUMENT = """
type: ls_pipeline.LabelingComponent
attributes:
  prefix: vision
  owners: [team:vision]
  label_studio: {url: "{{ env.VISION_URL }}", api_key: secret}
  s3: {endpoint_url: "http://127.0.0.1:9", region_name: eu-west-3}
  poll_seconds: 7
  connections:
    cats:
      source: {type: s3, path: "{{ env.PICTURES }}", params: {prefix: in, use_blob_urls: true}}
      target: {type: s3-completions, path: labels}
      project: Cats
      label_config_file: cats.xml
"""
CONFIG = '<View><Image name="i" value="$image"/></View>'


def run_dg(*words):
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    return done.exit_code, done.output


@pytest.fixture
def component(team, environment):
    """Return the file of a component with a connection."""
    environment.setenv("VISION_URL", "http://vision.example.com")
    environment.setenv("PICTURES", "pictures")
    folder = team / "src/team/defs/pictures"
    folder.mkdir()
    (folder / "cats.xml").write_text(CONFIG)
    (folder / "defs.yaml").write_text(DOCUMENT)
    return folder / "defs.yaml"


def load(team):
    from team.definitions import defs

    return defs()


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def files(folder):
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {str(file) for file in found if "__pycache__" not in str(file)}


def test_scaffold_loads_without_a_network_and_writes_nothing(team, offline):
    before = files(team)
    done = run_dg("scaffold", "defs", "ls_pipeline.LabelingComponent", "labeling")
    scaffolded = files(team)
    dg.Definitions.validate_loadable(load(team))

    assert done[0] == 0, done[1]
    assert scaffolded - before == {"src/team/defs/labeling/defs.yaml"}
    assert (files(team), home().exists()) == (scaffolded, False)


def test_dg_lists_the_component(team):
    status, shown = run_dg("list", "components", "--json")

    assert status == 0
    assert "ls_pipeline.LabelingComponent" in shown


@pytest.mark.parametrize("what", ["yaml", "defs"])
def test_dg_checks_a_component_with_connections(team, component, what):
    status, shown = run_dg("check", what)

    assert (status, "successfully" in shown) == (0, True), shown


def test_dg_check_yaml_finds_an_unknown_param(team, component):
    component.write_text(DOCUMENT.replace("prefix: in,", "prefics: in,"))
    status, shown = run_dg("check", "yaml")

    assert status == 1
    assert "defs/pictures/defs.yaml:11" in shown


def test_loading_names_an_unknown_param(team, component):
    component.write_text(DOCUMENT.replace("prefix: in,", "prefics: in,"))

    with pytest.raises(Exception, match="Error while building definitions for pictures") as error:
        load(team)
    assert "cats: There is no source param 'prefics' (did you mean 'prefix'?)" in str(
        error.value.__cause__
    )


def test_component_configures_its_pipeline(team, component):
    definitions = load(team)
    repository = definitions.get_repository_def()
    settings = repository.asset_graph.get(dg.AssetKey(["vision", "source_settings"]))
    with dg.build_resources(
        {name: definitions.resources[name] for name in ("vision_label_studio", "vision_s3")}
    ) as resources:
        app, s3 = resources.vision_label_studio, resources.vision_s3

    assert settings.metadata["declared_in"].text == "src/team/defs/pictures/defs.yaml"
    assert repository.get_sensor_def("vision_s3_objects").minimum_interval_seconds == 7
    assert (app.base_url, s3.region_name) == ("http://vision.example.com", "eu-west-3")
    assert list(settings.owners) == ["team:vision"]


def test_declared_connection_has_what_the_file_says(team, component):
    sensor = load(team).get_repository_def().get_sensor_def("vision_completions")
    (pipeline,) = [
        cell.cell_contents
        for cell in sensor._raw_fn.__closure__
        if hasattr(cell.cell_contents, "declarations")
    ]
    cats = pipeline.declarations["cats"].connection

    assert (cats.source.path, cats.source.params.prefix, cats.project) == ("pictures", "in", "Cats")
    assert cats.label_config == CONFIG


def test_two_components_have_names_of_their_own(team):
    for name in ("vision", "text"):
        run_dg("scaffold", "defs", "ls_pipeline.LabelingComponent", name)
    keys = load(team).resolve_asset_graph().get_all_asset_keys()

    assert {key.path[0] for key in keys} == {"vision", "text"}


def test_name_of_the_folder_is_the_default_prefix(team, component):
    component.write_text("type: ls_pipeline.LabelingComponent\n")
    keys = load(team).resolve_asset_graph().get_all_asset_keys()

    assert {key.path[0] for key in keys} == {"pictures"}


def test_every_attribute_is_described():
    schema = LabelingComponent.get_model_cls().model_json_schema()
    described = {
        f"{name}.{field}": "description" in properties
        for name, model in {"": schema, **schema["$defs"]}.items()
        for field, properties in model["properties"].items()
    }

    assert described.keys() >= {".prefix", "SourceParams.regex", "TargetParams.snapshot_cron"}
    assert [field for field, is_described in described.items() if not is_described] == []


def test_example_of_the_schema_is_valid(tmp_path):
    schema = LabelingComponent.get_model_cls().model_json_schema()
    (example,) = schema["properties"]["connections"]["examples"]
    (tmp_path / "reviews.xml").write_text(CONFIG)

    assert list(read_declarations(example, tmp_path, "here")) == ["reviews"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("prefix: in,", "prefics: in,", "source.params.prefics Additional properties are not"),
        ("type: s3,", "type: s4,", "source.type 's4' is not one of ['s3', 'gcs']"),
        ("path: labels", "path: labels, params: {delete: 5}", "params.delete 5 is not of type"),
        ("target: {type: s3-completions, path: labels}", "target: x", "target 'x' is not of type"),
    ],
)
def test_dg_check_defs_names_the_field_and_what_it_takes(team, component, old, new, said):
    component.write_text(DOCUMENT.replace(old, new))
    status, shown = run_dg("check", "defs")

    assert (status, said in " ".join(shown.split())) == (1, True), shown

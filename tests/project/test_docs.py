"""The page about a Dagster project works as it is written."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from dagster_dg_cli.cli import cli

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/dagster.md").read_text()


def blocks(language, page=PAGE):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_page_from_scaffold_to_model_loads(team, environment):
    environment.setenv("LABEL_STUDIO_API_KEY", "secret")
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        words = shlex.split(line)
        if words[0] == "dg":
            done = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
            assert done.exit_code == 0, done.output
    defs = team / "src/team/defs"
    (component,) = blocks("yaml")
    (defs / "labeling" / "defs.yaml").write_text(component)
    for number, code in enumerate(blocks("python")):
        (defs / f"page_{number}.py").write_text(code)
    from team.definitions import defs as load

    repository = load().get_repository_def()
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}

    assert {"labeling/tasks", "vision/tasks", "model", "models", "large_model"} <= assets
    assert {"labeling_s3_objects", "large_models"} <= {each.name for each in repository.sensor_defs}
    assert {"vision_s3", "labeling_training_data"} <= set(repository.get_top_level_resources())


def test_attributes_of_the_component_are_arguments_of_the_function():
    import inspect

    from ls_pipeline import LabelingComponent, build_definitions

    arguments = inspect.signature(build_definitions).parameters.keys()

    assert arguments - {"declared_in"} == LabelingComponent.get_model_cls().model_fields.keys()
    assert all(f"\n        {name}: " in build_definitions.__doc__ for name in arguments)


def test_location_of_the_hybrid_deployment_exists(environment):
    project = ROOT / "examples/dagster_project"
    (location,) = yaml.safe_load((project / "dagster_cloud.yaml").read_text())["locations"]
    environment.syspath_prepend(str(project / "src"))

    assert find_spec(location["code_source"]["module_name"])
    assert set(location) <= LOCATION_FIELDS


LOCATION_FIELDS = {"location_name", "code_source", "build", "container_context", "image"}


def test_example_project_loads(environment):
    environment.syspath_prepend(str(ROOT / "examples/dagster_project/src"))
    from letters.definitions import defs

    dg.Definitions.validate_loadable(defs())

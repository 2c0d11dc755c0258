"""A team's project, as `create-dagster` lays it out."""

import sys

import pytest

PYPROJECT = """
[project]
name = "team"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "team"
code_location_name = "team"
registry_modules = ["team.components.*"]
"""
DEFINITIONS = """
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture
def team(tmp_path, tmp_path_factory, environment):
    """Return the folder of an empty project, which is the working directory."""
    package = tmp_path / "src" / "team"
    for folder in (package, package / "defs", package / "components"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (package / "definitions.py").write_text(DEFINITIONS)
    environment.syspath_prepend(str(tmp_path / "src"))
    environment.chdir(tmp_path)
    environment.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    environment.setenv("PYTHONPATH", str(tmp_path / "src"), prepend=":")
    own = tmp_path_factory.mktemp("person") / "dg.toml"
    own.write_text("[cli.telemetry]\nenabled = false\n")
    environment.setenv("DG_CLI_CONFIG", str(own))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "team"]:
        del sys.modules[name]

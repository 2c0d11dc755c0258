"""The examples load as their README says."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ls_pipeline.resources.label_studio.app import LabelStudio

pytestmark = pytest.mark.server

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*/connections.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_example_becomes_tasks_that_show_its_data(stage, file):
    words = [sys.executable, str(EXAMPLES / "load.py"), file.parent.name]
    said = [subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2)]
    ((name, settings),) = yaml.safe_load(file.read_text())["connections"].items()
    done = stage.sync(name)[name]
    app = LabelStudio()
    project = app.find_project(settings["project"]).id
    tasks = [one.id for one in app.task_states(project)]
    shown = [one.document for one in app.completions(project, tasks)]

    assert (done["tasks"], done["quarantined"]) == (3, 0)
    assert f"Connection '{name}' was stored as revision 1." in said[0].stdout
    assert f"Connection '{name}' is unchanged at revision 1." in said[1].stdout
    assert len(shown) == 3
    assert all(bool(one["predictions"]) == (name == "example-predictions") for one in shown)


def test_readme_names_each_example():
    text = (EXAMPLES / "README.md").read_text()

    assert all(f"[{file.parent.name}]({file.parent.name})" in text for file in FILES)

"""The examples load as their README describes."""

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
def test_example_loads_as_tasks(stage, file):
    words = [sys.executable, str(EXAMPLES / "load.py"), file.parent.name]
    outputs = [subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2)]
    ((name, settings),) = yaml.safe_load(file.read_text())["connections"].items()
    counts = stage.sync(name)[name]
    app = LabelStudio()
    project = app.find_project(settings["project"]).id
    ids = [task.id for task in app.task_states(project)]
    tasks = [task.document for task in app.completions(project, ids)]

    assert (counts["tasks"], counts["quarantined"]) == (3, 0)
    assert f"Connection '{name}' was stored as revision 1." in outputs[0].stdout
    assert f"Connection '{name}' is unchanged at revision 1." in outputs[1].stdout
    assert len(tasks) == 3
    assert all(bool(task["predictions"]) == (name == "example-predictions") for task in tasks)


def test_readme_names_each_example():
    text = (EXAMPLES / "README.md").read_text()

    assert all(f"[{file.parent.name}]({file.parent.name})" in text for file in FILES)

"""What the docs show is true."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ls_pipeline.cli import samples
from ls_pipeline.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("ls-pipeline ")]


def test_commands_of_the_readme_work(environment, tmp_path):
    environment.chdir(tmp_path)
    (tmp_path / "reviews.xml").write_text(samples.TEXT_CONFIG)
    (tmp_path / "cats.xml").write_text(samples.PICTURE_CONFIG)
    (document,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "connections.yaml").write_text(document)
    added = [words for words in commands() if words[1] == "connections"]
    for words in added:
        done = CliRunner().invoke(main, words[1:])
        assert done.exit_code == 0, done.output
    listed = json.loads(CliRunner().invoke(main, ["connections", "list", "--json"]).stdout)

    assert list(listed["connections"]) == ["cats", "reviews"]
    assert listed["connections"]["cats"]["source"]["params"]["regex"] == r".*\.png"


@pytest.mark.parametrize("target", ["demo", "test", "setup", "fast"])
def test_make_targets_of_the_readme_exist(target):
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", ["README.md", "ARCHITECTURE.md"])
def test_links_lead_somewhere(file):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text())

    assert all(link.startswith("https://") or (ROOT / link).exists() for link in links)


def test_every_guarantee_names_a_test_that_is_there():
    text = (ROOT / "docs/guarantees.md").read_text()
    named = re.findall(r"`(tests/\S+)::(\w+)`", text)
    lines = [line for line in text.splitlines() if line.startswith("| ") and "`tests/" not in line]

    assert len(named) > 30
    assert set(lines) == {"| promise | shown by |", "| --- | --- |"}
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"

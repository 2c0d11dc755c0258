"""The docs agree with the code."""

import inspect
import json
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ls_pipeline.cli.connections.flags import ConnectionFlags
from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.main import main
from ls_pipeline.domain.formats.objects import parse_tasks
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.settings.params import SourceParams, TargetParams
from tests.test_reader import folder, labeled  # noqa: F401 - fixtures

ROOT = Path(__file__).parent.parent
CODE = ROOT / "ls_pipeline"
README = (ROOT / "README.md").read_text()
CONNECTIONS = (ROOT / "docs/connections.md").read_text()
DESIGN = [ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs/design").glob("*.md"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text):
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("ls-pipeline ")]


def test_commands_of_the_docs_work(environment, tmp_path):
    environment.chdir(tmp_path)
    (tmp_path / "reviews.xml").write_text(samples.TEXT_CONFIG)
    (tmp_path / "cats.xml").write_text(samples.PICTURE_CONFIG)
    (document,) = re.findall(r"```yaml\n(.*?)```", CONNECTIONS, re.DOTALL)
    (tmp_path / "connections.yaml").write_text(document)
    added = [words for words in commands(README + CONNECTIONS) if words[1] == "connections"]
    for words in added:
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, result.output
    listed = json.loads(CliRunner().invoke(main, ["connections", "list", "--json"]).stdout)

    assert list(listed["connections"]) == ["cats", "reviews"]
    assert listed["connections"]["cats"]["source"]["params"]["regex"] == r".*\.png"


def test_start_commands_of_the_docs_define_valid_connections(environment, tmp_path):
    environment.chdir(tmp_path)
    (tmp_path / "connections.yaml").touch()
    program = main.make_context("ls-pipeline", ["start"])
    names = inspect.signature(ConnectionFlags).parameters
    starts = [
        words for page in PAGES for words in commands(page.read_text()) if words[1] == "start"
    ]
    for words in starts:
        params = main.commands["start"].make_context("start", words[2:], parent=program).params
        if params["init"]:
            ConnectionFlags(**{name: params[name] for name in names}).build("labels")

    assert len(starts) > 5


def test_docs_install_the_package_from_what_exists():
    """There is no release: pip would find nothing, or what a stranger named so."""
    text = "".join(page.read_text() for page in PAGES)
    named = re.findall(r"pip install [^`\n]*ls[-_]pipeline[^`\n]*", text)

    assert [words for words in named if not re.search(r"git\+https|dist/", words)] == []
    assert "pip install ." in text


@pytest.mark.parametrize("language", ["json", "jsonl", "csv", "tsv", "python"])
def test_examples_of_file_formats_are_tasks(language, environment, tmp_path):
    environment.chdir(tmp_path)
    page = (ROOT / "docs/tasks.md").read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    key, bodies = f"tasks.{language}", [block.encode() for block in blocks]
    if language == "json":
        bodies = [body for body in bodies if b"column_map" not in body]
    if language == "python":
        exec(blocks[0], {})  # noqa: S102
        key, bodies = "tasks.parquet", [(tmp_path / "tasks.parquet").read_bytes()]
    (xml,) = re.findall(r"```xml\n(.*?)```", page, re.DOTALL)
    config = LabelConfig(xml)
    tasks = [task for body in bodies for task in parse_tasks(key, body, config)]

    assert len(tasks) == 2
    assert all(task.data["text"].startswith(("The lamp", "It took")) for task in tasks)
    assert {task.data["order"] for task in tasks} <= {"0815", "4711"}
    assert not any(config.prediction_error(each) for task in tasks for each in task.predictions)


def test_column_map_of_the_docs_is_valid():
    page = (ROOT / "docs/tasks.md").read_text()
    (block,) = re.findall(r'```json\n({"column_map".*?)```', page, re.DOTALL)

    assert SourceParams(**json.loads(block)).column_map == {"Body": "text", "internal_id": ""}


def test_make_targets_of_the_docs_exist():
    named = {
        target for page in PAGES for target in re.findall(r"`?make (\w+)(?:`|$)", page.read_text())
    }
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"demo", "test", "setup", "fast", "check"} <= named <= targets


def test_json_blocks_of_the_docs_are_valid():
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    ]

    assert len(list(map(json.loads, blocks))) > 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())

    assert all(link.startswith("https://") or (page.parent / link).exists() for link in links)


TABLES = {
    "guarantees": ["| guarantee | tests |", "| bound | value | tests |"],
    "threat-model": ["| who | could try | what stops it | tests |"],
}


@pytest.mark.parametrize("page", TABLES)
def test_every_row_names_an_existing_test(page):
    text = (ROOT / f"docs/{page}.md").read_text()
    named = re.findall(r"`(tests/\S+)::(\w+)`", text)
    lines = [line for line in text.splitlines() if line.startswith("| ") and "`tests/" not in line]

    assert len(named) > 30
    assert {line for line in lines if not re.fullmatch("[| -]+", line)} == set(TABLES[page])
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_reference_pages_are_up_to_date():
    pages = runpy.run_path(str(ROOT / "scripts/reference"))["PAGES"]

    assert len(pages) == 3
    for name, page in pages.items():
        assert (ROOT / "docs" / name).read_text() == page()


def test_help_of_every_command_has_an_example():
    page = (ROOT / "docs/command-line.md").read_text()
    helps = dict(re.findall(r"^#+ `([^`]+)`\n\n```text\n(.*?)```", page, re.DOTALL | re.MULTILINE))

    assert len(helps) > 15
    assert [name for name in helps if "  Example" not in helps[name]] == []


def test_commands_of_the_docs_have_flags_that_exist():
    lines = [words for page in PAGES for words in commands(page.read_text())]
    for words in lines:
        command, rest = main, words[1:]
        while isinstance(command, click.Group) and rest:
            command, rest = command.commands[rest[0]], rest[1:]
        flags = {flag for param in command.params for flag in param.opts}
        assert [word for word in rest if word.startswith("--") and word not in flags] == []

    assert len(lines) > 20


@pytest.mark.slow
def test_snippets_of_training_data_run(folder, environment, tmp_path, capsys):  # noqa: F811
    environment.setenv("HF_HOME", str(tmp_path))
    environment.setenv("HF_DATASETS_OFFLINE", "1")
    text = (ROOT / "docs/training-data.md").read_text() + README
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ours, alone = {}, {}
    for block in blocks:
        names = alone if "latest.json" in block else ours
        exec(block.replace("s3://my-bucket/labels", str(folder)), names)  # noqa: S102

    assert len(blocks) == 6
    assert ours["again"].name == ours["snapshot"].name == capsys.readouterr().out.strip()
    assert alone["name"] == ours["snapshot"].name


def test_params_are_explained():
    pages = ("connections", "s3", "settings", "training-data")
    text = README + "".join((ROOT / f"docs/{page}.md").read_text() for page in pages)
    params = [*SourceParams.model_fields, *TargetParams.model_fields]

    assert [name for name in params if f"`{name}`" not in text] == []


def test_explained_messages_exist_in_the_code():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    source = "".join(path.read_text() for path in (ROOT / "ls_pipeline").rglob("*.py"))

    assert len(messages) == 16
    assert [message for message in messages if message not in source] == []


def test_package_map_is_the_tree_of_the_code():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    (drawn,) = re.findall(r"## Package map.*?```\n(.*?)```", text, re.DOTALL)
    entries = re.findall(r"^(\S+) +\S.*\n((?: .*\n)*)", drawn, re.MULTILINE)
    names = {name for name, _ in entries if name.endswith(".py")}
    for package, modules in entries:
        names |= {f"{package}{module}.py" for module in re.findall(r"\w+", modules)}
    files = {str(file.relative_to(CODE)) for file in CODE.rglob("*.py")}

    assert names == {file for file in files if not re.search(r"__init__|/migrations/", file)}


def test_every_invariant_names_existing_code_and_test():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`(\S+\.py)::(\w+)`", text)
    folders = {file: ROOT if file.startswith("tests/") else CODE for file, _ in named}
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"\b(class|def) {name}\b", (folders[file] / file).read_text())
    ]

    assert len(named) == 18
    assert missing == []


@pytest.mark.parametrize("page", DESIGN, ids=lambda page: page.name)
def test_files_that_the_design_names_exist(page):
    named = re.findall(r"`([a-z0-9_/]+(?:\.py|/))(?:::\w+)?`", page.read_text())
    existing = [name for name in named if (CODE / name).exists() or (ROOT / name).exists()]

    assert named
    assert existing == named

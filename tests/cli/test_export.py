import json
import shutil
import types

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.export import _fetch
from ls_pipeline.cli.main import main
from ls_pipeline.settings.model import Source, SourceParams
from tests.contracts.memory_bucket import MemoryBucket
from tests.test_reader import folder, labeled  # noqa: F401 - fixtures


def run(*words):
    return CliRunner().invoke(main, ["export", *map(str, words)])


@pytest.mark.slow
def test_snapshot_is_written_in_another_format(folder, tmp_path):  # noqa: F811
    done = run(folder, "--format", "JSON_MIN", "--output", tmp_path / "out")
    rows = json.loads((tmp_path / "out/result.json").read_text())

    assert done.exit_code == 0, done.output
    assert "as JSON_MIN." in done.output.replace("\n", " ")
    assert len(rows) == 41


@pytest.mark.slow
def test_split_is_chosen(folder, tmp_path):  # noqa: F811
    words = ("--format", "JSON", "--output", tmp_path / "out", "--split", "test")
    report = json.loads(run(folder, *words, "--json").stdout)

    assert (report["format"], report["images"]) == ("JSON", 0)
    assert 0 < len(json.loads((tmp_path / "out/result.json").read_text())) < 20


def test_existing_output_is_left_alone(folder, tmp_path):  # noqa: F811
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    done = run(folder, "--format", "JSON", "--output", tmp_path / "out")

    assert (done.exit_code, [file.name for file in (tmp_path / "out").iterdir()]) == (2, ["mine"])
    assert "already exists" in done.stderr


def test_output_that_can_not_be_written_is_reported(folder, tmp_path, environment):  # noqa: F811
    environment.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    inside = run(folder, "--format", "JSON", "--output", tmp_path / "file/out")
    here = run(folder, "--format", "JSON", "--output", ".")

    assert (inside.exit_code, "Not a directory." in inside.stderr) == (1, True)
    assert (here.exit_code, "The output is the current folder" in here.stderr) == (2, True)


@pytest.mark.slow
def test_failure_leaves_nothing_behind(folder, tmp_path):  # noqa: F811
    done = run(folder, "--format", "COCO", "--output", tmp_path / "out")

    assert done.exit_code == 1
    assert "COCO can't represent the labels of this label config" in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_folder_without_snapshots_is_reported(folder, tmp_path):  # noqa: F811
    shutil.rmtree(folder / "training_data")
    done = run(folder, "--format", "JSON", "--output", tmp_path / "out")

    assert (done.exit_code, "There is no training data in" in done.stderr) == (1, True)


def test_unknown_connection_is_reported(environment, tmp_path):
    environment.chdir(tmp_path)
    done = run("absent", "--format", "JSON", "--output", "out")

    assert (done.exit_code, "no connection" in done.stderr) == (2, True)


def test_formats_are_in_the_help():
    assert "CONLL2003" in run("--help").output


def test_image_in_the_connections_bucket_is_fetched_with_its_params(tmp_path):
    params = SourceParams(endpoint_url="http://127.0.0.1:9")
    source = Source(type="s3", path="pictures", params=params)
    asked, bucket = [], MemoryBucket("pictures")
    bucket.put("a.png", b"a", "image/png")
    cli = types.SimpleNamespace(bucket_of=lambda side: asked.append(side) or bucket)
    for uri in ("s3://pictures/a.png", "s3://others/a.png"):
        _fetch(cli, source, uri, tmp_path / "a.png")

    assert (tmp_path / "a.png").read_bytes() == b"a"
    assert [(side.path, side.params.endpoint_url) for side in asked] == [
        ("pictures", "http://127.0.0.1:9"),
        ("others", ""),
    ]

import json
import shutil

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.export import ImageDownloads
from ls_pipeline.cli.main import main
from ls_pipeline.settings.model import Source
from ls_pipeline.settings.params import SourceParams
from tests.bench import RESULT, Bench
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


PICTURES = Source(
    type="s3", path="pictures", params=SourceParams(endpoint_url="http://127.0.0.1:9")
)


@pytest.fixture
def opened():
    """Return the sides that were opened, and the bucket that each of them is."""
    bucket = MemoryBucket("pictures")
    bucket.put("a.png", b"a", "image/png")
    return [], bucket


def downloads(opened, *sides):
    asked, bucket = opened
    return ImageDownloads(lambda side: asked.append(side) or bucket, sides, lambda _done: None)


def test_image_in_the_connections_bucket_is_downloaded_with_its_params(opened, tmp_path):
    images = downloads(opened, PICTURES)

    assert images.fetch("s3://pictures/a.png", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"a"
    assert (opened[0], images.done, images.missing) == ([PICTURES], 1, {})


@pytest.mark.parametrize(
    "uri", ["s3://others/a.png", "gs://pictures/a.png", "s3://pictures2/a.png"]
)
def test_image_in_another_bucket_is_not_downloaded(opened, tmp_path, uri):
    images = downloads(opened, PICTURES)

    assert not images.fetch(uri, tmp_path / "a.png")
    assert (opened[0], list(tmp_path.iterdir())) == ([], [])
    assert uri.removesuffix("/a.png") in images.sentence


def test_missing_image_stops_no_other(opened, tmp_path):
    images = downloads(opened, PICTURES)

    assert not images.fetch("s3://pictures/absent.png", tmp_path / "absent.png")
    assert images.fetch("s3://pictures/a.png", tmp_path / "a.png")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert images.missing.keys() == {"s3://pictures/absent.png"}


@pytest.mark.parametrize("bucket", ["file:///etc", "http://169.254.169.254", "s3://a/b", "a"])
def test_images_from_what_is_no_bucket_is_refused(folder, tmp_path, bucket):  # noqa: F811
    done = run(folder, "--format", "JSON", "--output", tmp_path / "out", "--images-from", bucket)

    assert (done.exit_code, "is not a bucket" in done.stderr) == (2, True)


@pytest.fixture
def copy(tmp_path):
    """Return a copy of a target with a task that two people labeled, one with a relation."""
    bench = Bench(f"sqlite:///{tmp_path}/ledger.db")
    bench.put("a.json", {"text": "s3://others/a.png"})
    bench.load()
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    bench.app.annotate(bench.task_id("a.json"), [*RESULT, relation])
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.export()
    bench.snapshot()
    bench.ledger.close()
    for key, body in bench.target.objects.items():
        (tmp_path / "copy" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / key).write_bytes(body)
    return tmp_path / "copy"


def test_losses_are_said_and_fail_if_strict(copy, tmp_path):
    lax = run(copy, "--format", "CSV", "--output", tmp_path / "lax")
    strict = run(copy, "--format", "CSV", "--output", tmp_path / "strict", "--strict")
    whole = run(copy, "--format", "JSON", "--output", tmp_path / "whole", "--strict")
    said = "1 of 3 results are not in it (1: it is a relation). See lost.json."

    assert (lax.exit_code, strict.exit_code, whole.exit_code) == (0, 1, 0)
    assert said in " ".join(lax.stdout.split())
    assert said in " ".join(strict.stderr.split())
    assert len(json.loads((tmp_path / "strict/lost.json").read_text())["items"]) == 1


def test_annotations_are_chosen(copy, tmp_path):
    words = ("--format", "CSV", "--output", tmp_path / "out", "--annotations", "latest")
    done = run(copy, *words, "--json")

    assert (done.exit_code, json.loads(done.stdout)["annotations_not_chosen"]) == (0, 1)
    assert len((tmp_path / "out/result.csv").read_text().splitlines()) == 2


def test_images_that_were_not_downloaded_are_reported(copy, tmp_path):
    words = ("--format", "JSON", "--output", tmp_path / "out", "--images", "--json")
    done = run(copy, *words)

    assert (done.exit_code, "--images-from s3://others" in done.stderr) == (1, True)
    assert json.loads(done.stdout)["not_downloaded"].keys() == {"s3://others"}
    assert json.loads((tmp_path / "out/result.json").read_text())[0]["data"] == {
        "text": "s3://others/a.png"
    }

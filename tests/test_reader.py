"""Snapshots as a training job reads them: with our reader, and with others."""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ls_pipeline import SnapshotError, open_snapshot
from ls_pipeline.domain.errors import BucketNotFoundError
from ls_pipeline.reader import Snapshot
from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.resources.snapshots import Snapshots
from tests.bench import RESULT, Bench

ROOT = Path(__file__).parent.parent
OBJECTS = 40


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Yield a bench with two snapshots of 40 labeled tasks; the first lacks one label."""
    bench = Bench(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db")
    bench.set(target={"prefix": "labels"})
    for number in range(OBJECTS):
        bench.put(f"{number}.json", {"text": f"text {number} good" if number % 2 else "bad"})
    bench.load()
    for number in range(OBJECTS):
        result = {**RESULT[0], "value": {"choices": ["A" if number % 2 else "B"]}}
        bench.app.annotate(bench.task_id(f"{number}.json"), [result])
    bench.export()
    bench.snapshot()
    bench.app.annotate(bench.task_id("0.json"), RESULT)
    bench.export()
    bench.snapshot()
    yield bench
    bench.ledger.close()


@pytest.fixture
def folder(labeled, tmp_path):
    """Return a folder on disk with the target's content."""
    for key, body in labeled.target.objects.items():
        file = tmp_path / "bucket" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    return tmp_path / "bucket/labels"


@pytest.fixture
def snapshot(folder):
    return open_snapshot(folder)


def test_newest_snapshot_is_opened(snapshot):
    assert snapshot.name.startswith("00000002-")
    assert [len(snapshot.frame(name)) for name in ("tasks", "annotations", "results")] == [
        40,
        41,
        41,
    ]


@pytest.mark.parametrize("where", ["", "/", "/training_data", "/training_data/"])
def test_folder_may_be_named_in_several_ways(folder, where):
    assert open_snapshot(f"{folder}{where}").name.startswith("00000002-")


def test_targets_folder_may_be_called_training_data(folder, tmp_path):
    own = tmp_path / "training_data"
    folder.rename(own)

    assert open_snapshot(own).name == open_snapshot(own / "training_data").name


def test_snapshot_is_pinned_by_name_or_by_its_folder(folder, snapshot):
    first = snapshot.manifest.previous
    by_name, by_folder = (
        open_snapshot(folder, first),
        open_snapshot(Path(snapshot.uri).parent / first),
    )

    assert by_name.name == by_folder.name == first
    assert len(by_folder.frame("annotations")) == OBJECTS


def test_splits_together_are_the_whole(snapshot):
    parts = [snapshot.frame("tasks", split) for split in ("train", "validation", "test")]
    ids = [task_id for part in parts for task_id in part["task_id"]]

    assert sorted(ids) == sorted(snapshot.frame("tasks")["task_id"])
    assert len(parts[0]) > len(parts[1]) > 0


def test_columns_are_chosen(snapshot):
    assert list(snapshot.frame("results", columns=["labels", "split"])) == ["labels", "split"]


def test_documents_are_label_studios_own(snapshot, labeled):
    documents = list(snapshot.documents())
    files = {
        json.loads(body)["id"]: json.loads(body)
        for key, body in labeled.target.objects.items()
        if key.count("/") == 1
    }

    assert {document["id"]: document["annotations"] for document in documents} == {
        number: document["annotations"] for number, document in files.items()
    }
    assert len(list(snapshot.documents("test"))) == len(snapshot.frame("tasks", "test"))


@pytest.mark.parametrize("wrong", [{"table": "rows"}, {"table": "tasks", "split": "dev"}])
def test_error_lists_what_exists(snapshot, wrong):
    with pytest.raises(ValueError, match="there are t"):
        snapshot.dataset(**wrong)


def test_damaged_file_is_an_error(folder, snapshot):
    file = snapshot.files("results")[0]
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    with pytest.raises(SnapshotError, match="was damaged or replaced"):
        snapshot.frame("results")


def test_missing_file_is_an_error(folder, snapshot):
    snapshot.files("results")[0].unlink()

    with pytest.raises(SnapshotError, match="is gone"):
        snapshot.frame("results")


def test_folder_without_training_data_is_an_error(tmp_path):
    with pytest.raises(SnapshotError, match=r"There is no training data in .*Materialize"):
        open_snapshot(tmp_path)


def test_unknown_snapshot_is_an_error(folder):
    with pytest.raises(SnapshotError, match=r"There is no snapshot 'x' in .*latest.json"):
        open_snapshot(folder, "x")


def test_unknown_location_is_an_error():
    with pytest.raises(SnapshotError, match="is not the location"):
        open_snapshot("http://example.com/labels")


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"wrong": 1}, "no target param 'wrong'.* Params: .*role_arn"),
        ({"role_arn": 1}, "'role_arn' must be a string"),
        ({"secret_key": "x"}, "credentials are not settings"),
        ("role", "'params'"),
    ],
)
def test_wrong_params_are_an_error(params, sentence):
    with pytest.raises(SnapshotError, match=sentence):
        open_snapshot("s3://bucket/labels", params=params)


def test_manifest_that_names_another_place_writes_nothing(folder, snapshot):
    file = Path(snapshot.uri) / "manifest.json"
    path = snapshot.manifest.parts[0].files["results"].path
    file.write_text(file.read_text().replace(path, "../../../../.bashrc"))

    with pytest.raises(SnapshotError, match="was damaged or replaced"):
        open_snapshot(folder)


def test_snapshot_of_a_newer_schema_is_an_error(folder, snapshot):
    file = Path(snapshot.uri) / "manifest.json"
    file.write_text(file.read_text().replace('"schema_version": "1"', '"schema_version": "2"'))

    with pytest.raises(SnapshotError, match="Upgrade"):
        open_snapshot(folder)


# -- in buckets ---------------------------------------------------------------------------------


def s3(name):
    import boto3

    boto3.client("s3").create_bucket(Bucket=name)
    return S3Buckets().open(name)


def gcs(name):
    from google.cloud import storage

    storage.Client().create_bucket(name)
    return GCSBuckets().open(name)


@pytest.mark.server
@pytest.mark.parametrize("make", [s3, gcs])
def test_bucket_is_read_once_and_then_from_the_cache(live_environment, labeled, tmp_path, make):
    bucket = make(f"reading-{make.__name__}")
    for key, body in labeled.target.objects.items():
        bucket.put(key, body, "application/octet-stream")
    opened = open_snapshot(bucket.uri("labels"), cache=tmp_path)
    frame = opened.frame("results")
    for item in list(opened.snapshots.objects(opened.name)):
        bucket.delete(item.key)

    assert len(frame) == 41
    assert opened.frame("results").equals(frame)
    shutil.rmtree(tmp_path)
    with pytest.raises(SnapshotError, match="is gone"):
        opened.frame("results")


def test_default_cache_is_private_whatever_the_umask(labeled, environment, tmp_path):
    environment.setenv("XDG_CACHE_HOME", str(tmp_path))
    snapshots, cache = Snapshots(labeled.target, "labels"), tmp_path / "ls_pipeline"
    manifest = snapshots.manifest(snapshots.latest()[0].snapshot)
    before = os.umask(0)
    try:
        Snapshot(snapshots, manifest, cache / "bucket").files("tasks")
    finally:
        os.umask(before)

    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.server
def test_absent_bucket_is_an_error(live_environment):
    with pytest.raises(BucketNotFoundError, match="absent-bucket"):
        open_snapshot("s3://absent-bucket/labels")


# -- in a training image ------------------------------------------------------------------------

LIGHT = """
import json, sys

class Absent:
    names = set(json.loads(sys.stdin.read()))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
from ls_pipeline import open_snapshot

snapshot = open_snapshot(sys.argv[1], cache=sys.argv[2])
print(snapshot.name, len(snapshot.frame("results")), len(list(snapshot.documents())))
"""


def dependencies(names):
    """Return distributions, and all that they need."""
    found, rest = set(), [canonicalize_name(name) for name in names]
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or ())
            rest += [
                canonicalize_name(need.name)
                for need in needed
                if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    return found


def named_packages():
    """Return the packages that the docs name for a training job, which reads from S3."""
    text = (ROOT / "docs/training-data.md").read_text()
    (packages,) = re.findall(r"^\$ pip install (pyarrow .*)$", text, re.MULTILINE)
    return set(packages.split())


def absent_without(packages):
    """Return the modules of all packages but these, their dependencies and ours."""
    present = {*dependencies(packages), "ls-pipeline"}
    return [
        module
        for module, owners in metadata.packages_distributions().items()
        if present.isdisjoint(map(canonicalize_name, owners))
    ]


def read_alone(where, cache, absent):
    """Read a snapshot in another process, where some modules are absent."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIGHT, str(where), str(cache)],
        input=json.dumps(absent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_packages_of_a_training_job_are_few():
    pipeline = {"alembic", "dagster", "dagster_aws", "dagster_gcp", "dagster_webserver"}
    absent = absent_without(named_packages())

    assert {*pipeline, "label_studio_sdk", "matplotlib", "sqlalchemy"} < set(absent)


@pytest.mark.slow
def test_folder_is_read_without_the_pipelines_packages(snapshot, folder, tmp_path):
    absent = absent_without(named_packages() - {"botocore", "obstore"})

    assert read_alone(folder, tmp_path, absent) == [snapshot.name, "41", "40"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("make", "packages"),
    [
        (s3, named_packages()),
        (gcs, named_packages() - {"botocore", "obstore"} | {"google-cloud-storage"}),
    ],
)
def test_bucket_is_read_without_the_pipelines_packages(
    labeled, environment, s3_server, gcs_server, tmp_path, make, packages
):
    for name, value in (s3_server.client_environment | gcs_server.client_environment).items():
        environment.setenv(name, value)
    bucket = make(f"alone-{make.__name__}")
    for key, body in labeled.target.objects.items():
        bucket.put(key, body, "application/octet-stream")

    read = read_alone(bucket.uri("labels"), tmp_path, absent_without(packages))
    assert read[1:] == ["41", "40"]


# -- other readers ------------------------------------------------------------------------------


def test_pandas_reads_a_table(snapshot):
    import pandas as pd

    assert len(pd.read_parquet(f"{snapshot.uri}/results")) == 41


def test_pyarrow_reads_a_table(snapshot):
    import pyarrow.dataset as ds

    train = ds.field("split") == "train"
    table = ds.dataset(f"{snapshot.uri}/results").to_table(filter=train)
    assert len(table) == len(snapshot.frame("results", "train"))


def test_duckdb_reads_a_table(snapshot):
    import duckdb

    query = "SELECT label, count(*) FROM (SELECT unnest(labels) AS label FROM '{}') GROUP BY 1"
    counts = duckdb.sql(query.format(f"{snapshot.uri}/results/*.parquet")).fetchall()
    assert dict(counts) == {"A": 21, "B": 20}


def test_datasets_reads_a_table(snapshot, tmp_path, environment):
    environment.setenv("HF_HOME", str(tmp_path))
    environment.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = f"{snapshot.uri}/results/*.parquet"
    dataset = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert (len(dataset), dataset[0]["labels"]) == (41, ["B"])


@pytest.mark.slow
def test_example_trains_a_model_on_a_pinned_snapshot(folder, snapshot, tmp_path):
    words = [sys.executable, str(ROOT / "examples/train.py"), str(folder), "--output", "model"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    model = json.loads((tmp_path / "model/model.json").read_text())

    assert done.returncode == 0, done.stderr
    assert model["snapshot"] == snapshot.uri
    assert model["accuracy"]["test"] > 0.7
    again = [*words[:-1], "again", "--snapshot", snapshot.manifest.previous]
    subprocess.run(again, check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "again/model.json").read_text())["snapshot"].endswith(
        snapshot.manifest.previous
    )


@pytest.mark.slow
def test_example_says_that_one_class_is_too_few(bench, tmp_path):
    bench.fill("abcdefgh", labeled="abcdefgh")
    bench.export()
    bench.snapshot()
    for key, body in bench.target.objects.items():
        file = tmp_path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    words = [sys.executable, str(ROOT / "examples/train.py"), str(tmp_path), "--output", "model"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert "labeled texts of 1 classes. A classifier needs two classes" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "model").exists()


# -- media --------------------------------------------------------------------------------------

PICTURES = """<View><Image name="i" value="$image"/><Text name="t" value="$text"/>
<Choices name="c" toName="i"><Choice value="A"/></Choices></View>"""


def picture(number):
    """Return a small PNG, different for each number."""
    from PIL import Image

    body = io.BytesIO()
    Image.new("RGB", (3, 2), (number, 0, 0)).save(body, "PNG")
    return body.getvalue()


def labeled_pictures(bench, roots, monkeypatch):
    """Label six tasks, whose pictures are in buckets with these URIs in turn; make a snapshot."""
    monkeypatch.setattr("tests.bench.CONFIG", PICTURES)
    bench.set(target={"prefix": "labels", "test_share": 0.4})
    for number in range(6):
        address = f"{roots[number % len(roots)]}/pictures/{number}.png"
        bench.put(f"{number}.json", {"image": address, "text": f"text {number}"})
    bench.load()
    for number in range(6):
        result = {**RESULT[0], "to_name": "i"}
        bench.app.annotate(bench.task_id(f"{number}.json"), [result])
    bench.export()
    bench.snapshot()


@pytest.mark.server
@pytest.mark.parametrize(("make", "other"), [(s3, gcs), (gcs, s3)])
def test_media_of_both_clouds_are_on_disk(
    environment, s3_server, gcs_server, bench, monkeypatch, tmp_path, make, other
):
    for name, value in (s3_server.client_environment | gcs_server.client_environment).items():
        environment.setenv(name, value)
    bucket, pictures = (m(f"media-{make.__name__}-{m.__name__}") for m in (make, other))
    labeled_pictures(bench, [bucket.uri()[:-1], pictures.uri()[:-1]], monkeypatch)
    for number in range(6):
        place = pictures if number % 2 else bucket
        place.put(f"pictures/{number}.png", picture(number), "image/png")
    for key, body in bench.target.objects.items():
        bucket.put(key, body, "application/octet-stream")
    opened = open_snapshot(bucket.uri("labels"), cache=tmp_path)

    with pytest.raises(SnapshotError, match=r"3 media objects .* skip_missing"):
        opened.media()
    assert len(opened.media(skip_missing=True)) == 3
    files = opened.media(buckets=[pictures.uri()])
    assert [file.path.read_bytes() for file in files] == [picture(n) for n in range(6)]
    test = {file.task_id for file in opened.media("test", buckets=[pictures.uri()])}
    assert test == set(opened.frame("tasks", "test")["task_id"]) != set()

    for place in (bucket, pictures):
        for stored in next(place.pages("pictures/")):
            place.delete(stored.key)
    dataset = opened.to_datasets("test", media=True, buckets=[pictures.uri()])
    assert sorted(dataset["task_id"]) == sorted(test)
    number = int(dataset[0]["text"].partition(" ")[2])
    assert dataset[0]["image"].getpixel((0, 0)) == (number, 0, 0)
    assert dataset[0]["results"][0]["labels"] == ["A"]


def test_media_of_a_folder_are_missed_with_their_addresses(bench, monkeypatch, tmp_path):
    labeled_pictures(bench, ["s3://pictures"], monkeypatch)
    snapshot = opened_of(bench, tmp_path)

    with pytest.raises(SnapshotError) as caught:
        snapshot.media("train")
    assert "s3://pictures was not named as a bucket to read" in str(caught.value)
    assert snapshot.media(skip_missing=True) == []
    with pytest.raises(SnapshotError, match="'pictures' is not a bucket, as in s3://pictures"):
        snapshot.media(buckets=["pictures"])
    with pytest.raises(ValueError, match="there is no split 'dev'"):
        snapshot.media("dev")


def opened_of(bench, tmp_path):
    snapshots = Snapshots(bench.target, "labels")
    manifest = snapshots.manifest(snapshots.latest()[0].snapshot)
    return Snapshot(snapshots, manifest, tmp_path / "cache" / "of-it" / manifest.snapshot)


def test_datasets_has_a_row_for_each_task(snapshot):
    whole, train = snapshot.to_datasets(), snapshot.to_datasets("train")
    frame = snapshot.frame("tasks")

    assert whole["task_id"][:] == frame["task_id"].tolist()
    assert whole["text"][:3] == ["bad", "text 1 good", "bad"]
    assert [len(results) for results in whole["results"]][:2] == [2, 1]
    assert whole[1]["results"][0]["labels"] == ["A"]
    assert set(train["split"]) == {"train"}


def test_datasets_takes_media_as_features(bench, monkeypatch, tmp_path):
    import datasets

    labeled_pictures(bench, ["s3://pictures"], monkeypatch)
    snapshot = opened_of(bench, tmp_path)
    without = snapshot.to_datasets()
    missing = snapshot.to_datasets(media=True, skip_missing=True)

    assert without[0]["image"] == "s3://pictures/pictures/0.png"
    assert isinstance(missing.features["image"], datasets.Image)
    assert missing[0]["image"] is None

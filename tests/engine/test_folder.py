"""Folders for training: every byte of every picture, its labels, and nothing else."""

import json
from collections import Counter

import pytest

from ls_pipeline.domain.errors import BucketAccessError
from ls_pipeline.domain.snapshot.folders import FOLDERS, is_folder_file
from ls_pipeline.engine.folder import write_folders
from ls_pipeline.resources.snapshots import Snapshots
from ls_pipeline.settings.validation import build_connection
from tests.bench import Bench
from tests.contracts.memory_bucket import MemoryBucket
from tests.engine.test_crashes import Killed, Killer
from tests.engine.test_load import Wrapped

CONFIG = """<View><Image name="i" value="$image"/><RectangleLabels name="b" toName="i">
<Label value="car"/><Label value="bus"/></RectangleLabels></View>"""
TARGET = {"prefix": "labels", "test_share": 0.3, "validation_share": 0.3}


def box(label, x=10):
    value = {"x": x, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": [label]}
    size = {"original_width": 100, "original_height": 50}
    return [{"from_name": "b", "to_name": "i", "type": "rectanglelabels", "value": value, **size}]


class Pictures:
    """A bench with labeled pictures, and the folders that are made of them."""

    def __init__(self, ledger, monkeypatch, folders=("YOLO", "COCO")):
        monkeypatch.setattr("tests.bench.CONFIG", CONFIG)
        self.bench = Bench(ledger, use_blob_urls=True, prefix="pictures", target=TARGET)
        self.others = {}
        self.set(folders=list(folders))

    def set(self, **target):
        self.bench.set(use_blob_urls=True, prefix="pictures", target={**TARGET, **target})

    def label(self, *names, body=None):
        for name in names:
            self.bench.put(f"pictures/{name}.jpg", body or f"picture {name}".encode())
        self.bench.load()
        for name in names:
            task_id = self.bench.task_id(f"pictures/{name}.jpg")
            self.bench.app.annotate(task_id, box("car" if name < "d" else "bus"))
        self.bench.export()

    def snapshot(self):
        return self.bench.snapshot().newest

    def write(self, manifest, target=None, source=None):
        """Write the folders of a snapshot as the asset does."""
        target, source = target or self.bench.target, source or self.bench.bucket
        buckets = {"s3://bucket/": source, "s3://labels/": target, **self.others}

        def open_bucket(side):
            return buckets[side.root]

        with self.bench.run(target, open_bucket=open_bucket) as run:
            return write_folders(run, Snapshots(target, "labels"), manifest)

    def copies_of(self, manifest):
        """Write the folders; return the keys of the objects that the store copied for them."""
        copies, target = [], self.bench.target

        def copy(key, to, **options):
            copies.append(key)
            target.copy(key, to, **options)

        self.write(manifest, target=Wrapped(target, copy=copy))
        return copies

    def files(self, manifest, name):
        root = f"labels/training_data/datasets/{manifest.snapshot}/{name}/"
        objects = self.bench.target.objects
        return {key[len(root) :]: body for key, body in objects.items() if key.startswith(root)}


def test_buckets_with_one_name_in_two_stores_are_told_apart(pictures):
    bench, place = pictures.bench, {"type": "s3", "path": "labels"}
    bench.bucket = other = MemoryBucket("labels")
    params = {"use_blob_urls": True, "prefix": "pictures", "endpoint_url": "http://other:9000"}
    connection = build_connection(
        bench.name,
        source={**place, "params": params},
        target={**place, "type": "s3-completions", "params": {**TARGET, "folders": ["YOLO"]}},
        project="Reviews",
        label_config=CONFIG,
    )
    bench.ledger.save(connection, "test")
    pictures.label(*"abc")
    for name in "abc":
        bench.target.put(f"pictures/{name}.jpg", b"of another store", "image/jpeg")
    manifest = pictures.snapshot()
    buckets = {"http://other:9000": other, "": bench.target}
    with bench.run(bench.target, open_bucket=lambda side: buckets[side.params.endpoint_url]) as run:
        folder = write_folders(run, Snapshots(bench.target, "labels"), manifest)["YOLO"]
    files = pictures.files(manifest, "yolo")
    images = {body for path, body in files.items() if path.startswith("images/")}

    assert (images, folder.missing) == ({b"picture a", b"picture b", b"picture c"}, 0)


@pytest.fixture
def pictures(empty_ledger, monkeypatch):
    return Pictures(empty_ledger, monkeypatch)


def split_of(files, name):
    (path,) = [path for path in files if path.endswith(f"-{name}.jpg")]
    return path.split("/")[1]


def test_yolo_folder_has_each_picture_with_its_labels(pictures):
    pictures.label(*"abcdefgh")
    manifest = pictures.snapshot()
    folder = pictures.write(manifest)["YOLO"]
    files = pictures.files(manifest, "yolo")
    images = {path: body for path, body in files.items() if path.startswith("images/")}

    assert sorted(images.values()) == [f"picture {name}".encode() for name in "abcdefgh"]
    assert Counter(path.split("/")[1] for path in images) == {
        {"train": "train", "validation": "val", "test": "test"}[split]: count
        for split, count in folder.pictures.items()
    }
    assert len(folder.pictures) == 3
    for path in images:
        label = files[path.replace("images/", "labels/").replace(".jpg", ".txt")]
        assert label.split()[1:] == b"0.25 0.4 0.3 0.4".split()
        assert label.split()[0] == (b"0" if path[-5] < "d" else b"1")
    assert b"val: images/val" in files["data.yaml"]
    assert all(is_folder_file(f"yolo/{path}") for path in files)
    assert "folder.json" in files
    assert not [path for path in files if path.startswith("progress/")]


def test_coco_folder_names_pictures_of_their_split(pictures):
    pictures.label(*"abcdefgh")
    manifest = pictures.snapshot()
    pictures.write(manifest)
    files = pictures.files(manifest, "coco")

    names = {}
    for split in ("train", "val", "test"):
        document = json.loads(files[f"annotations/instances_{split}.json"])
        names |= {image["file_name"]: split for image in document["images"]}
        assert [each["name"] for each in document["categories"]] == ["car", "bus"]
        assert [each["bbox"] for each in document["annotations"]] == [[10, 10, 30, 20]] * len(
            document["images"]
        )
    images = {path for path in files if path.startswith("images/")}
    assert images == {f"images/{split}/{name}" for name, split in names.items()}


def test_complete_folder_is_left_alone(pictures):
    pictures.label("a", "b")
    manifest = pictures.snapshot()
    first = pictures.write(manifest)
    wrapped = Wrapped(pictures.bench.target, put=None, copy=None, put_file=None)

    assert pictures.write(manifest, target=wrapped) == first


def test_folder_follows_whose_annotations_are_chosen(pictures):
    pictures.set(folders=["YOLO"])
    pictures.label("a")
    pictures.bench.app.annotate(pictures.bench.task_id("pictures/a.jpg"), box("bus"))
    pictures.bench.export()
    manifest = pictures.snapshot()
    everyone = pictures.write(manifest)["YOLO"]
    pictures.set(folders=["YOLO"], formats_annotations="latest")
    latest = pictures.write(manifest)["YOLO"]
    files = pictures.files(manifest, "yolo")

    assert [sum(folder.pictures.values()) for folder in (everyone, latest)] == [2, 1]
    (label,) = [body for path, body in files.items() if path.startswith("labels/")]
    assert label.startswith(b"1 ")
    assert len([path for path in files if path.startswith("images/")]) == 1


def test_pictures_of_the_folder_before_are_copied_from_there(pictures):
    pictures.label(*"abc")
    pictures.write(pictures.snapshot())
    pictures.label("d")
    manifest = pictures.snapshot()
    pictures.set(folders=["YOLO"])
    copies = pictures.copies_of(manifest)

    assert [key for key in copies if "/datasets/" not in key] == ["pictures/d.jpg"]
    assert len(copies) == 4
    images = [body for path, body in pictures.files(manifest, "yolo").items() if "images/" in path]
    assert sorted(images) == [f"picture {name}".encode() for name in "abcd"]


def test_pictures_of_an_incomplete_folder_are_copied_from_there(pictures, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.folder.PROGRESS_EACH", 1)
    pictures.set(folders=["YOLO"])
    pictures.label("a")
    pictures.write(pictures.snapshot())
    pictures.label("b")

    def breaks(key, *arguments, **options):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pictures.write(pictures.snapshot(), Wrapped(pictures.bench.target, put_file=breaks))
    pictures.label("c")
    manifest = pictures.snapshot()
    copies = pictures.copies_of(manifest)

    assert [key for key in copies if "/datasets/" not in key] == ["pictures/c.jpg"]
    images = [body for path, body in pictures.files(manifest, "yolo").items() if "images/" in path]
    assert sorted(images) == [b"picture a", b"picture b", b"picture c"]


@pytest.mark.parametrize("damage", ["removed", "replaced"])
def test_picture_that_was_damaged_before_comes_from_its_source(pictures, damage):
    pictures.label("a")
    first = pictures.snapshot()
    pictures.write(first)
    (key,) = [key for key in pictures.bench.target.objects if "yolo/images" in key]
    if damage == "removed":
        pictures.bench.target.delete(key)
    else:
        pictures.bench.target.put(key, b"another", "")
    pictures.label("b")
    manifest = pictures.snapshot()
    pictures.write(manifest)

    images = [body for path, body in pictures.files(manifest, "yolo").items() if "images/" in path]
    assert sorted(images) == [b"picture a", b"picture b"]


@pytest.mark.parametrize("name", ["gone", "replaced", "elsewhere"])
def test_missing_picture_is_named_and_its_task_left_out(pictures, name):
    pictures.label(*"abc")
    if name == "elsewhere":
        pictures.bench.bucket.delete("pictures/b.jpg")
        task = pictures.bench.app.tasks[pictures.bench.task_id("pictures/b.jpg")]
        task["data"]["image"] = "gs://other/b.jpg"
        pictures.bench.app.annotate(task["id"], box("bus"))
        pictures.bench.export()
    manifest = pictures.snapshot()
    if name == "gone":
        pictures.bench.bucket.delete("pictures/b.jpg")
    if name == "replaced":
        pictures.bench.bucket.put("pictures/b.jpg", b"another", "")
    folders = pictures.write(manifest)
    files = pictures.files(manifest, "yolo")
    reason = {
        "gone": "the object does not exist (any more).",
        "replaced": "the object was replaced since it was labeled.",
        "elsewhere": "nothing is read from gs://other: add it to the source's media_buckets.",
    }[name]

    assert (folders["YOLO"].missing, folders["COCO"].missing) == (1, 1)
    assert folders["YOLO"].missing_example.endswith(f"/b.jpg: {reason}")
    assert json.loads(files["missing.jsonl"])["reason"] == reason
    assert len([path for path in files if path.startswith("images/")]) == 2
    assert len([path for path in files if path.startswith("labels/")]) == 2
    coco = pictures.files(manifest, "coco")
    documents = [json.loads(body) for path, body in coco.items() if "instances" in path]
    assert sum(len(document["images"]) for document in documents) == 2


def test_bucket_of_another_store_is_streamed(pictures):
    pictures.set(folders=["YOLO"], endpoint_url="https://other.example.com")
    pictures.label(*"abc")
    manifest = pictures.snapshot()
    pictures.write(manifest, target=Wrapped(pictures.bench.target, copy=None))

    images = [body for path, body in pictures.files(manifest, "yolo").items() if "images/" in path]
    assert sorted(images) == [b"picture a", b"picture b", b"picture c"]


def test_store_that_may_not_copy_is_streamed(pictures):
    pictures.label("a")
    manifest = pictures.snapshot()

    def refuse(key, to, **options):
        raise BucketAccessError(f"s3://bucket/{key}", "access is refused.")

    folder = pictures.write(manifest, target=Wrapped(pictures.bench.target, copy=refuse))["YOLO"]

    assert (folder.missing, sum(folder.pictures.values())) == (0, 1)


def test_target_that_may_not_be_written_fails_the_run(pictures):
    pictures.label("a")
    manifest = pictures.snapshot()

    def refuse(*arguments, **options):
        raise BucketAccessError("s3://labels", "access is refused.")

    target = Wrapped(pictures.bench.target, copy=refuse, put_file=refuse)
    with pytest.raises(BucketAccessError):
        pictures.write(manifest, target=target)


@pytest.mark.parametrize("count", [1, 25])
def test_credentials_that_may_read_nothing_fail_the_run(pictures, count):
    pictures.label(*(f"{number:02}" for number in range(count)))
    manifest = pictures.snapshot()

    def refuse(*arguments, **options):
        raise BucketAccessError("s3://bucket", "access is refused.")

    target = Wrapped(pictures.bench.target, copy=refuse)
    with pytest.raises(BucketAccessError):
        pictures.write(
            manifest, target=target, source=Wrapped(pictures.bench.bucket, download=refuse)
        )

    assert "folder.json" not in pictures.files(manifest, "yolo")


def test_missing_picture_that_is_back_completes_the_folder(pictures):
    pictures.set(folders=["YOLO"])
    pictures.label("a", "b")
    manifest = pictures.snapshot()
    body = pictures.bench.bucket.objects.pop("pictures/b.jpg")
    assert pictures.write(manifest)["YOLO"].missing == 1
    pictures.bench.bucket.objects["pictures/b.jpg"] = body
    copies = []

    def copy(key, to, **options):
        copies.append(key)
        pictures.bench.target.copy(key, to, **options)

    folder = pictures.write(manifest, target=Wrapped(pictures.bench.target, copy=copy))["YOLO"]

    assert (folder.missing, sum(folder.pictures.values())) == (0, 2)
    assert copies == ["pictures/b.jpg"]
    assert pictures.files(manifest, "yolo")["missing.jsonl"] == b""


def test_object_replaced_between_two_runs_is_not_mixed_up(empty_ledger, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.folder.PROGRESS_EACH", 1)
    monkeypatch.setattr("ls_pipeline.engine.parallel.THREADS", 1)
    pictures = Pictures(empty_ledger, monkeypatch, ["YOLO"])
    bench = pictures.bench
    bench.set(prefix="tasks", target={**TARGET, "folders": ["YOLO"]})
    for name in "abc":
        bench.bucket.put(f"pictures/{name}.jpg", f"first {name}".encode(), "image/jpeg")
        bench.put(f"tasks/{name}.json", {"image": f"s3://bucket/pictures/{name}.jpg"})
    bench.load()
    for name in "abc":
        bench.app.annotate(bench.task_id(f"tasks/{name}.json"), box("car"))
    bench.export()
    manifest = pictures.snapshot()

    def breaks(key, *arguments, **options):
        if key.endswith("media.jsonl"):
            raise KeyboardInterrupt
        return bench.target.put_file(key, *arguments, **options)

    with pytest.raises(KeyboardInterrupt):
        pictures.write(manifest, target=Wrapped(bench.target, put_file=breaks))
    bench.bucket.put("pictures/b.jpg", b"second b", "image/jpeg")
    pictures.write(manifest)
    files = pictures.files(manifest, "yolo")
    index = [json.loads(line) for line in files["media.jsonl"].splitlines()]

    assert sorted(body for path, body in files.items() if path.startswith("images/")) == [
        b"first a",
        b"first c",
        b"second b",
    ]
    assert {each["uri"]: each["version"] for each in index} == {
        f"s3://bucket/pictures/{name}.jpg": bench.bucket.version(f"pictures/{name}.jpg")
        for name in "abc"
    }
    assert not [path for path in files if path.startswith("progress/")]


def test_equal_bytes_in_two_splits_are_counted(pictures):
    pictures.label(*"abcdefgh", body=b"the same")
    folder = pictures.write(pictures.snapshot())["YOLO"]

    assert folder.leaks == 8
    first, second = (path.split("/")[1] for path in folder.leak_example)
    assert first != second


def test_other_bytes_are_no_leak(pictures):
    pictures.label(*"abcdefgh")

    assert pictures.write(pictures.snapshot())["YOLO"].leaks == 0


def test_format_that_does_not_fit_is_named(bench, monkeypatch):
    bench.set(target={"folders": ["YOLO"]})
    bench.fill("a", labeled="a")
    bench.export()
    manifest = bench.snapshot().newest
    with bench.run(bench.target) as run:
        folders = write_folders(run, Snapshots(bench.target, ""), manifest)

    assert folders == {
        "YOLO": "YOLO can't represent the labels of this label config. "
        "Folders hold pictures with regions; formats hold texts and recordings."
    }


@pytest.mark.slow
def test_writer_killed_anywhere_and_run_again_ends_right(pictures, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.folder.PROGRESS_EACH", 2)
    monkeypatch.setattr("ls_pipeline.engine.parallel.THREADS", 1)
    pictures.set(folders=["YOLO"])
    pictures.label(*"abcd")
    manifest = pictures.snapshot()
    before = dict(pictures.bench.target.objects)
    pictures.write(manifest)
    whole = dict(pictures.bench.target.objects)
    steps = 1
    while True:
        pictures.bench.target.objects = dict(before)
        killer = Killer(steps)
        try:
            pictures.write(manifest, target=killer.wrap(pictures.bench.target))
            break
        except Killed:
            marked = any("folder.json" in key for key in pictures.bench.target.objects)
            assert not marked or pictures.bench.target.objects == whole
        pictures.write(manifest)
        assert pictures.bench.target.objects == whole
        steps += 1
    assert steps > 30


def test_run_again_copies_only_what_is_left(pictures, monkeypatch):
    monkeypatch.setattr("ls_pipeline.engine.folder.PROGRESS_EACH", 2)
    monkeypatch.setattr("ls_pipeline.engine.parallel.THREADS", 1)
    pictures.set(folders=["YOLO"])
    pictures.label(*"abcdef")
    manifest = pictures.snapshot()
    copies = []

    def breaks(key, to, **options):
        copies.append(key)
        if len(copies) == 6:
            raise KeyboardInterrupt
        pictures.bench.target.copy(key, to, **options)

    target = Wrapped(pictures.bench.target, copy=breaks)
    with pytest.raises(KeyboardInterrupt):
        pictures.write(manifest, target=target)
    copies.clear()
    pictures.write(manifest, target=target)

    assert len(copies) == 2


def test_retention_removes_folders_but_no_file_of_others(pictures):
    pictures.set(folders=["YOLO"], delete=True, snapshots_kept=1, snapshots_kept_days=0)
    pictures.label("a")
    first = pictures.snapshot()
    pictures.write(first)
    own = f"labels/training_data/datasets/{first.snapshot}/yolo/notes.txt"
    pictures.bench.target.put(own, b"mine", "text/plain")
    pictures.label("b")
    pictures.bench.time.sleep(100_000)
    pictures.snapshot()

    assert list(pictures.files(first, "yolo")) == ["notes.txt"]


def test_every_format_has_a_folder_name():
    assert all(is_folder_file(f"{name.lower()}/data.yaml") for name in FOLDERS)
    assert not is_folder_file("yolo/images/train/../../x.jpg")
    assert not is_folder_file("voc/data.yaml")

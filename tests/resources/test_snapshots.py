"""Documents in the bucket that anyone may have written: they are read, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.domain.errors import SnapshotError
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.domain.snapshot.manifest import (
    LATEST_BYTES,
    MANIFEST_BYTES,
    Changes,
    File,
    Latest,
    Manifest,
    Part,
    Tally,
    latest_key,
    manifest_key,
    part_path,
    snapshot_folder,
)
from ls_pipeline.domain.snapshot.tables import TABLES
from ls_pipeline.resources.snapshots import Snapshots
from tests.contracts.memory_bucket import MemoryBucket

NAME = "00000001-0123456789ab"
HASH = "0" * 64

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)

PATHS = [
    "/etc/passwd",
    "../../../home/me/.bashrc",
    "tasks/../../../.bashrc",
    "tasks/part-00000000.parquet/../../x",
    "tasks//part-00000000.parquet",
    "tasks\\part-00000000.parquet",
    "C:/tasks/part-00000000.parquet",
    "tasks/part-00000000.parquet\0",
    "tasks/part-00000000.parquet\n",
    "tasks/part-0000000\u0661.parquet",
    "others/part-00000000.parquet",
    "annotations/part-00000000.parquet",
    "tasks/part-00000001.parquet",
    "manifest.json",
    "",
]


def manifest():
    files = {name: File(path=part_path(name, 0), rows=1, bytes=1, sha256=HASH) for name in TABLES}
    return Manifest(
        snapshot=NAME,
        number=1,
        previous="",
        schema_version="1",
        connection="cats",
        project=1,
        label_config="",
        label_studio_version="1",
        settings_revision=1,
        pyarrow_version="1",
        shares={"validation": 0.1, "test": 0.1},
        rows=dict.fromkeys(TABLES, 1),
        bytes=3,
        changes=Changes(new=1),
        tally=Tally(tasks=1, splits={"train": 1}, labels={"c": {"A": {"train": 1}}}),
        parts=[Part(first=0, last=4999, digest=HASH, files=files, tally=Tally(tasks=1))],
    )


def snapshots(latest=b"", manifest=b""):
    bucket = MemoryBucket()
    bucket.put(latest_key(""), latest, "")
    bucket.put(manifest_key("", NAME), manifest, "")
    return Snapshots(bucket, "")


def is_read_or_refused(read):
    """Return whether a document was read; any error but a `SnapshotError` passes."""
    try:
        read()
    except SnapshotError as error:
        assert "was damaged or replaced" in error.message  # noqa: PT017 - it may also succeed
        return False
    return True


def paths(document, at=()):
    """Yield the path of each value in a document."""
    yield at
    inner = document.items() if isinstance(document, dict) else ()
    inner = enumerate(document) if isinstance(document, list) else inner
    for key, value in inner:
        yield from paths(value, (*at, key))


def replaced(document, path, value):
    """Return a document with another value at a path."""
    if not path:
        return value
    copy = list(document) if isinstance(document, list) else dict(document)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


MANIFEST = json.loads(manifest().as_bytes())
LATEST = {"snapshot": NAME, "number": 1, "manifest": manifest_key("labels", NAME)}


def test_own_documents_are_read():
    own = snapshots(Latest(**LATEST).as_bytes(), manifest().as_bytes())

    assert (own.latest()[0].snapshot, own.manifest(NAME)) == (NAME, manifest())


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_any_body_is_read_or_refused(body):
    is_read_or_refused(snapshots(latest=body).latest)
    assert not is_read_or_refused(lambda: snapshots(manifest=body).manifest(NAME))


@given(st.sampled_from(list(paths(LATEST))), JSON)
def test_latest_with_any_value_is_read_or_refused(path, value):
    body = json.dumps(replaced(LATEST, path, value)).encode()
    is_read_or_refused(snapshots(latest=body).latest)


@given(st.sampled_from(list(paths(MANIFEST))), JSON | st.sampled_from(PATHS))
def test_manifest_with_any_value_names_only_its_own_files(path, value):
    body = json.dumps(replaced(MANIFEST, path, value)).encode()
    own = snapshots(manifest=body)

    if is_read_or_refused(lambda: own.manifest(NAME)):
        found = own.manifest(NAME)
        assert found.snapshot == NAME
        assert [part.files[name].path for part in found.parts for name in part.files] in (
            [],
            [part_path(name, 0) for name in TABLES],
        )


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_elsewhere_are_refused(path):
    body = json.dumps(replaced(MANIFEST, ("parts", 0, "files", "tasks", "path"), path)).encode()

    assert not is_read_or_refused(lambda: snapshots(manifest=body).manifest(NAME))


@pytest.mark.parametrize("name", ["", "x", "../../x", "/etc", f"{NAME}/..", f"{NAME}\n"])
def test_names_that_are_none_of_ours_are_not_looked_up(name):
    latest = {**LATEST, "snapshot": name, "manifest": manifest_key("", name)}

    assert not is_read_or_refused(snapshots(latest=json.dumps(latest).encode()).latest)
    with pytest.raises(SnapshotError, match="There is no snapshot"):
        snapshots().manifest(name)


def test_latest_and_manifest_belong_to_their_snapshot():
    other = NAME.replace("1-", "2-")
    latest = {**LATEST, "manifest": manifest_key("", other)}

    assert not is_read_or_refused(snapshots(latest=json.dumps(latest).encode()).latest)
    moved = snapshots()
    moved.bucket.put(manifest_key("", other), manifest().as_bytes(), "")
    assert not is_read_or_refused(lambda: moved.manifest(other))


class Huge(MemoryBucket):
    """A bucket whose objects are listed in a size, and can't be read."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def pages(self, prefix="", after=""):
        yield [StoredObject(prefix, "v", self.size)]

    def get(self, key, version=""):
        raise AssertionError(f"{key} was read")

    def download(self, stored, file):
        raise AssertionError(f"{stored.key} was read")


def test_documents_that_are_too_large_are_not_read():
    assert not is_read_or_refused(Snapshots(Huge(LATEST_BYTES + 1), "").latest)
    assert not is_read_or_refused(lambda: Snapshots(Huge(MANIFEST_BYTES + 1), "").manifest(NAME))


def test_file_of_another_size_is_not_read(tmp_path):
    file = manifest().parts[0].files["tasks"]
    huge = Snapshots(Huge(file.bytes + 1), "")

    assert not is_read_or_refused(lambda: huge.read(NAME, file))
    assert not is_read_or_refused(lambda: huge.fetch(NAME, file, tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_fetched_file_that_differs_leaves_nothing(tmp_path):
    file = manifest().parts[0].files["tasks"]
    replaced_file = snapshots()
    replaced_file.bucket.put(snapshot_folder("", NAME) + file.path, b"x", "")

    assert not is_read_or_refused(lambda: replaced_file.fetch(NAME, file, tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_only_objects_of_ours_count_as_snapshots():
    own = snapshots()
    for key in ("notes.txt", "mine/manifest.json", f"{NAME}/notes.txt", f"{NAME}/a/manifest.json"):
        own.bucket.put(f"training_data/snapshots/{key}", b"mine", "")

    assert {name: len(objects) for name, objects in own.by_name().items()} == {NAME: 1}

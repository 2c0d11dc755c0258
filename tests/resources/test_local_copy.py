import hashlib
import itertools
import json
import os
from pathlib import Path

import pytest

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketUnavailableError,
    LocalCopyError,
    ObjectChangedError,
)
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.local_copy import LocalCopy
from tests.contracts.memory_bucket import MemoryBucket
from tests.contracts.test_bucket import HOSTILE, gcs, s3
from tests.engine.test_load import Wrapped


class Killed(BaseException):
    """Passes every `except` in our code, as SIGKILL does."""


@pytest.fixture
def bucket():
    return MemoryBucket("bucket")


@pytest.fixture
def copy(tmp_path):
    return LocalCopy(tmp_path / "copy")


def put(bucket, **objects):
    for key, body in objects.items():
        bucket.put(key, body, "text/plain")


def listed(bucket):
    return [stored for page in bucket.pages() for stored in page]


def follow(copy, bucket, through=None):
    return copy.update(through or bucket, listed(bucket))


def contents(copy):
    """Return key → body by the index, which must name all files."""
    indexed = {entry["key"]: copy.root / entry["file"] for entry in copy.entries()}
    files = {file for file in copy.files.rglob("*") if file.is_file()}
    assert files == set(indexed.values())
    return {key: file.read_bytes() for key, file in indexed.items()}


def test_copy_has_every_object_under_a_name_of_its_own(copy, bucket):
    keys = [*HOSTILE, "../../etc/x", "a", "a/b", "A", "a//b", "a.png", "A.PNG", "con.txt"]
    for key in keys:
        bucket.put(key, key.encode(), "text/plain")
    done = follow(copy, bucket)

    assert contents(copy) == {key: key.encode() for key in keys}
    assert done.fetched == len(keys)


def test_nothing_is_written_beside_the_copy(copy, bucket, tmp_path):
    for key in HOSTILE:
        bucket.put(key, b"", "text/plain")
    bucket.put("../../../../../../../../tmp/x", b"", "text/plain")
    follow(copy, bucket)

    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_unchanged_objects_are_not_fetched_again(copy, bucket):
    put(bucket, a=b"a", b=b"b")
    follow(copy, bucket)
    done = follow(copy, Wrapped(bucket, download=None))

    assert (done.kept, done.fetched) == (2, 0)


def test_replaced_added_and_removed_objects_are_followed(copy, bucket):
    put(bucket, **{"a/b/c.txt": b"old", "d.txt": b"d", "e.txt": b"e"})
    follow(copy, bucket)
    bucket.delete("a/b/c.txt")
    put(bucket, **{"d.txt": b"new", "f.txt": b"f"})
    done = follow(copy, bucket)

    assert contents(copy) == {"d.txt": b"new", "e.txt": b"e", "f.txt": b"f"}
    assert (done.fetched, done.removed, done.kept) == (2, 1, 1)
    assert sorted(path.name for path in copy.files.iterdir()) == ["d.txt", "e.txt", "f.txt"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"longer")])
def test_file_that_a_person_deleted_or_changed_comes_back(copy, bucket, damage):
    put(bucket, **{"a.txt": b"a"})
    follow(copy, bucket)
    damage(copy.files / "a.txt")
    follow(copy, bucket)

    assert contents(copy) == {"a.txt": b"a"}


def test_object_that_changes_while_it_is_read_keeps_its_old_file(copy, bucket):
    put(bucket, **{"a.txt": b"old", "b.txt": b"b"})
    follow(copy, bucket)
    seen = listed(bucket)
    seen[0] = StoredObject("a.txt", "another version", 3)

    def changed(stored, file):
        raise ObjectChangedError(bucket.uri(stored.key))

    done = copy.update(Wrapped(bucket, download=changed), seen)

    assert contents(copy) == {"a.txt": b"old", "b.txt": b"b"}
    assert len(done.skipped) == 1


def test_object_that_vanished_meanwhile_is_left_out(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})
    seen = listed(bucket)
    bucket.delete("a.txt")
    done = copy.update(bucket, seen)

    assert (contents(copy), len(done.skipped)) == ({"b.txt": b"b"}, 1)


def test_object_that_may_not_be_read_stops_no_other(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})

    def refuse(stored, file):
        if stored.key == "a.txt":
            raise BucketAccessError(bucket.uri(stored.key), "access is refused.")
        bucket.download(stored, file)

    done = follow(copy, bucket, Wrapped(bucket, download=refuse))

    assert (contents(copy), done.refused) == (
        {"b.txt": b"b"},
        ["s3://bucket/a.txt: access is refused."],
    )


def test_truncated_body_is_an_error(copy, bucket):
    put(bucket, **{"a.txt": b"whole"})
    short = Wrapped(bucket, download=lambda stored, file: file.write(b"wh"))

    with pytest.raises(BucketUnavailableError, match="only 2 of its 5 bytes arrived"):
        follow(copy, bucket, short)
    assert list(copy.files.iterdir()) == []


def test_link_that_leads_out_is_refused_and_nothing_is_touched_there(copy, bucket, tmp_path):
    put(bucket, **{"a/b.txt": b"a"})
    follow(copy, bucket)
    outside = tmp_path / "outside"
    (copy.files / "a").rename(outside)
    (copy.files / "a").symlink_to(outside)
    put(bucket, **{"a/b.txt": b"changed"})

    for _ in range(2):
        with pytest.raises(LocalCopyError, match="a link leads out"):
            follow(copy, bucket)
    assert (outside / "b.txt").read_bytes() == b"a"


def test_disk_that_refuses_is_reported_in_a_sentence(copy, bucket, monkeypatch):
    put(bucket, **{"a.txt": b"a"})

    def full(*_):
        raise OSError(28, "No space left on device", "a.txt")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalCopyError, match=r"a.txt: the local copy can't be written \(No space"):
        follow(copy, bucket)


class Full:
    def write(self, _data):
        raise OSError(28, "No space left on device")


def test_full_disk_is_not_a_network_error(copy, bucket):
    put(bucket, **{"a.txt": b"a"})

    def fill(stored, file):
        file._file = Full()
        file.write(b"a")

    with pytest.raises(LocalCopyError, match="No space left"):
        follow(copy, bucket, Wrapped(bucket, download=fill))


# -- killed anywhere --------------------------------------------------------------------------


class Doom:
    """Counts steps, and raises `Killed` at one of them."""

    def __init__(self, at=None):
        self.at, self.steps, self._numbers = at, 0, itertools.count(1)

    def step(self):
        self.steps = next(self._numbers)  # from several threads
        if self.steps == self.at:
            raise Killed

    def around(self, call):
        def wrapped(*args, **options):
            self.step()
            result = call(*args, **options)
            self.step()
            return result

        return wrapped


def before(bucket):
    put(bucket, **{f"{name}/x.txt": name.encode() for name in "abcd"}, Upper=b"u")


def after(bucket):
    bucket.delete("a/x.txt")
    bucket.delete("Upper")
    put(bucket, **{"b/x.txt": b"B", "c/y.txt": b"y", "z.txt": b"z"})


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["first copy", "changes"])
def test_copy_killed_anywhere_and_run_again_is_as_if_never_killed(tmp_path, first, monkeypatch):
    def run(name, doom):
        bucket, copy = MemoryBucket("bucket"), LocalCopy(tmp_path / name)
        before(bucket)
        if not first:
            follow(copy, bucket)
            after(bucket)
        with monkeypatch.context() as patch:
            for part, call in ((Path, "replace"), (Path, "unlink"), (Path, "rmdir"), (os, "fsync")):
                patch.setattr(part, call, doom.around(getattr(part, call)))
            killed = False
            try:
                follow(copy, bucket, Wrapped(bucket, download=doom.around(bucket.download)))
            except Killed:
                killed = True
        return bucket, copy, killed

    doom = Doom()
    run("undisturbed", doom)
    assert doom.steps > 20
    for at in range(1, doom.steps + 1):
        bucket, copy, killed = run(f"killed-{at}", Doom(at))
        assert killed
        if at % 2:  # and removed from the bucket before the next call
            bucket.delete("b/x.txt")
        follow(copy, bucket)
        assert contents(copy) == bucket.objects, f"killed at step {at}"


def test_what_an_interrupted_copy_had_is_not_fetched_again(copy, bucket):
    put(bucket, **{f"{n:03}.txt": b"x" for n in range(100)})

    def download(stored, file):
        if stored.key == "080.txt":
            raise Killed
        bucket.download(stored, file)

    with pytest.raises(Killed):
        follow(copy, bucket, Wrapped(bucket, download=download))
    done = follow(copy, bucket)

    assert len(contents(copy)) == 100
    assert done.kept >= 79


def test_torn_last_line_of_an_interrupted_copy_is_not_read(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})
    follow(copy, bucket)
    (copy.root / "index.jsonl").rename(copy.root / "index.jsonl.new")
    new = copy.root / "index.jsonl.new"
    new.write_text(new.read_text()[:-10])
    follow(copy, bucket)

    assert contents(copy) == {"a.txt": b"a", "b.txt": b"b"}


def test_index_is_a_line_an_object_in_the_order_of_keys(copy, bucket):
    put(bucket, **{"b.txt": b"b", "A.txt": b"a"})
    follow(copy, bucket)
    first, second = map(json.loads, (copy.root / "index.jsonl").read_text().splitlines())
    digest = hashlib.sha256(b"A.txt").hexdigest()[:32]

    assert (first["key"], first["file"]) == ("A.txt", f"files/A~{digest}.txt")
    assert (second["key"], second["file"], second["size"]) == ("b.txt", "files/b.txt", 1)


@pytest.mark.server
@pytest.mark.parametrize("cloud", [s3, gcs])
def test_bucket_on_a_server_is_copied_whole(copy, request, cloud):
    bucket, _ = cloud(request)
    bodies = {"a/b.bin": os.urandom(2**21), "A B+c%.txt": b"x", "empty.txt": b""}
    put(bucket, **bodies)
    follow(copy, bucket)

    assert contents(copy) == bodies

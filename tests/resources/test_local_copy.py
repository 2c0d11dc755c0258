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
from ls_pipeline.resources.local_copy import MAX_REFUSED, LocalCopy
from tests.contracts.memory_bucket import MemoryBucket
from tests.contracts.test_bucket import HOSTILE, gcs, s3
from tests.engine.test_load import Wrapped


class Killed(BaseException):
    """A stand-in for SIGKILL, which our code must not catch."""


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
    """Return key → body of the files that the index names, which must be all."""
    indexed = {entry["key"]: copy.root / entry["file"] for entry in copy.entries()}
    files = {file for file in copy.files.rglob("*") if file.is_file()}
    assert files == set(indexed.values())
    return {key: file.read_bytes() for key, file in indexed.items()}


def test_every_object_is_copied_to_its_own_file(copy, bucket):
    keys = [*HOSTILE, "../../etc/x", "a", "a/b", "A", "a//b", "a.png", "A.PNG", "con.txt"]
    for key in keys:
        bucket.put(key, key.encode(), "text/plain")
    result = follow(copy, bucket)

    assert contents(copy) == {key: key.encode() for key in keys}
    assert result.fetched == len(keys)


def test_nothing_is_written_outside_the_copy(copy, bucket, tmp_path):
    for key in HOSTILE:
        bucket.put(key, b"", "text/plain")
    bucket.put("../../../../../../../../tmp/x", b"", "text/plain")
    follow(copy, bucket)

    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_unchanged_objects_are_not_fetched_again(copy, bucket):
    put(bucket, a=b"a", b=b"b")
    follow(copy, bucket)
    result = follow(copy, Wrapped(bucket, download=None))

    assert (result.kept, result.fetched) == (2, 0)


def test_replaced_added_and_removed_objects_are_followed(copy, bucket):
    put(bucket, **{"a/b/c.txt": b"old", "d.txt": b"d", "e.txt": b"e"})
    follow(copy, bucket)
    bucket.delete("a/b/c.txt")
    put(bucket, **{"d.txt": b"new", "f.txt": b"f"})
    result = follow(copy, bucket)

    assert contents(copy) == {"d.txt": b"new", "e.txt": b"e", "f.txt": b"f"}
    assert (result.fetched, result.removed, result.kept) == (2, 1, 1)
    assert sorted(path.name for path in copy.files.iterdir()) == ["d.txt", "e.txt", "f.txt"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"longer")])
def test_deleted_or_changed_file_is_restored(copy, bucket, damage):
    put(bucket, **{"a.txt": b"a"})
    follow(copy, bucket)
    damage(copy.files / "a.txt")
    follow(copy, bucket)

    assert contents(copy) == {"a.txt": b"a"}


def test_object_that_changes_while_read_keeps_its_old_file(copy, bucket):
    put(bucket, **{"a.txt": b"old", "b.txt": b"b"})
    follow(copy, bucket)
    objects = listed(bucket)
    objects[0] = StoredObject("a.txt", "another version", 3)

    def changed(stored, file):
        raise ObjectChangedError(bucket.uri(stored.key))

    result = copy.update(Wrapped(bucket, download=changed), objects)

    assert contents(copy) == {"a.txt": b"old", "b.txt": b"b"}
    assert len(result.skipped) == 1


def test_object_deleted_after_the_listing_is_left_out(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})
    objects = listed(bucket)
    bucket.delete("a.txt")
    result = copy.update(bucket, objects)

    assert (contents(copy), len(result.skipped)) == ({"b.txt": b"b"}, 1)


def test_unreadable_object_does_not_stop_the_others(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})

    def refuse(stored, file):
        if stored.key == "a.txt":
            raise BucketAccessError(bucket.uri(stored.key), "access is refused.")
        bucket.download(stored, file)

    result = follow(copy, bucket, Wrapped(bucket, download=refuse))

    assert (contents(copy), result.refused) == (
        {"b.txt": b"b"},
        ["s3://bucket/a.txt: access is refused."],
    )


def test_truncated_body_is_skipped(copy, bucket):
    put(bucket, **{"a.txt": b"whole"})
    short = Wrapped(bucket, download=lambda stored, file: file.write(b"wh"))
    result = follow(copy, bucket, short)

    assert "only 2 of its 5 bytes arrived" in result.skipped[0]
    assert list(copy.files.iterdir()) == []


def test_bucket_that_delivers_nothing_is_an_error(copy, bucket):
    put(bucket, **{f"{number:02}.txt": b"whole" for number in range(MAX_REFUSED)})

    def fail(*_):
        raise BucketUnavailableError("s3://bucket/", "try again.")

    with pytest.raises(BucketUnavailableError):
        follow(copy, bucket, Wrapped(bucket, download=fail))


def test_link_out_of_the_copy_is_refused(copy, bucket, tmp_path):
    put(bucket, **{"a/b.txt": b"a"})
    follow(copy, bucket)
    outside = tmp_path / "outside"
    (copy.files / "a").rename(outside)
    (copy.files / "a").symlink_to(outside)
    put(bucket, **{"a/b.txt": b"changed"})

    for _ in range(2):
        with pytest.raises(LocalCopyError, match="a symbolic link leads out"):
            follow(copy, bucket)
    assert (outside / "b.txt").read_bytes() == b"a"


def test_write_error_is_a_local_copy_error(copy, bucket, monkeypatch):
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


# -- a copy that is killed ----------------------------------------------------------------------


class Killer:
    """Counts steps, and raises `Killed` at one of them."""

    def __init__(self, at=None):
        self.at, self.steps, self._numbers = at, 0, itertools.count(1)

    def step(self):
        self.steps = next(self._numbers)  # from several threads
        if self.steps == self.at:
            raise Killed

    def wrap(self, call):
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
def test_copy_killed_anywhere_and_repeated_is_complete(tmp_path, first, monkeypatch):
    def run(name, killer):
        bucket, copy = MemoryBucket("bucket"), LocalCopy(tmp_path / name)
        before(bucket)
        if not first:
            follow(copy, bucket)
            after(bucket)
        with monkeypatch.context() as patch:
            for part, call in ((Path, "replace"), (Path, "unlink"), (Path, "rmdir"), (os, "fsync")):
                patch.setattr(part, call, killer.wrap(getattr(part, call)))
            killed = False
            try:
                follow(copy, bucket, Wrapped(bucket, download=killer.wrap(bucket.download)))
            except Killed:
                killed = True
        return bucket, copy, killed

    killer = Killer()
    run("undisturbed", killer)
    assert killer.steps > 20
    for at in range(1, killer.steps + 1):
        bucket, copy, killed = run(f"killed-{at}", Killer(at))
        assert killed
        if at % 2:  # the object is removed before the copy is repeated
            bucket.delete("b/x.txt")
        follow(copy, bucket)
        assert contents(copy) == bucket.objects, f"killed at step {at}"


def test_files_of_an_interrupted_copy_are_not_fetched_again(copy, bucket):
    put(bucket, **{f"{n:03}.txt": b"x" for n in range(100)})

    def download(stored, file):
        if stored.key == "080.txt":
            raise Killed
        bucket.download(stored, file)

    with pytest.raises(Killed):
        follow(copy, bucket, Wrapped(bucket, download=download))
    result = follow(copy, bucket)

    assert len(contents(copy)) == 100
    assert result.kept >= 79


def test_incomplete_last_line_of_an_index_is_ignored(copy, bucket):
    put(bucket, **{"a.txt": b"a", "b.txt": b"b"})
    follow(copy, bucket)
    (copy.root / "index.jsonl").rename(copy.root / "index.jsonl.new")
    new = copy.root / "index.jsonl.new"
    new.write_text(new.read_text()[:-10])
    follow(copy, bucket)

    assert contents(copy) == {"a.txt": b"a", "b.txt": b"b"}


def test_index_has_one_line_per_object_by_key(copy, bucket):
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

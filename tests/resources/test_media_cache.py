"""Media on disk: whole, verified, fetched once, and the same at each reading."""

import threading

import pytest

from ls_pipeline.domain.errors import BucketAccessError, BucketUnavailableError
from ls_pipeline.domain.snapshot.media import MediaObject
from ls_pipeline.resources.media_cache import AHEAD, MediaCache
from tests.contracts.memory_bucket import MemoryBucket
from tests.engine.test_load import Wrapped


@pytest.fixture
def bucket():
    bucket = MemoryBucket("pictures")
    for number in range(3):
        bucket.put(f"{number}.jpg", b"picture %d" % number, "image/jpeg")
    return bucket


def files(bucket, tmp_path, pins="pins.json"):
    buckets = {"s3://pictures": bucket}
    return MediaCache(tmp_path / "media", tmp_path / pins, buckets.get)


def picture(number, version="", task_id=1):
    return MediaObject(task_id, "image", f"s3://pictures/{number}.jpg", version)


def test_files_are_as_in_the_bucket_and_in_order(bucket, tmp_path):
    wanted = [picture(number % 3, task_id=number) for number in range(3 * AHEAD)]
    found = files(bucket, tmp_path).fetch(wanted)

    assert [file.task_id for file in found] == list(range(3 * AHEAD))
    assert [file.path.read_bytes() for file in found[:3]] == list(bucket.objects.values())
    assert {file.path.suffix for file in found} == {".jpg"}
    assert len(list((tmp_path / "media").rglob("*.*"))) == 3


def test_second_reading_asks_the_bucket_nothing(bucket, tmp_path):
    first = files(bucket, tmp_path).fetch([picture(0), picture(1)])
    bucket.exists = False

    assert files(bucket, tmp_path).fetch([picture(0), picture(1)]) == first


def test_replaced_object_stays_as_it_was_read_first(bucket, tmp_path):
    first = files(bucket, tmp_path).fetch([picture(0)])
    bucket.put("0.jpg", b"another", "image/jpeg")
    other = files(bucket, tmp_path, "pins-of-another-snapshot.json").fetch([picture(0)])

    assert files(bucket, tmp_path).fetch([picture(0)]) == first
    assert other[0].path.read_bytes() == b"another"
    first[0].path.unlink()
    again = files(bucket, tmp_path)
    assert again.fetch([picture(0)]) == []
    assert again.missing == {
        "s3://pictures/0.jpg": "s3://pictures/0.jpg: the object was replaced since it was labeled."
    }


def test_blob_is_read_in_the_version_that_was_labeled(bucket, tmp_path):
    version = bucket.version("0.jpg")
    media = files(bucket, tmp_path)
    assert len(media.fetch([picture(0, version)])) == 1
    bucket.put("0.jpg", b"another", "image/jpeg")

    later = files(bucket, tmp_path, "later.json")
    found = later.fetch([picture(0, version), picture(0, bucket.version("0.jpg"), 2)])
    assert [file.path.read_bytes() for file in found] == [b"picture 0", b"another"]


def test_file_that_was_cut_on_disk_is_read_again(bucket, tmp_path):
    (file,) = files(bucket, tmp_path).fetch([picture(0)])
    file.path.write_bytes(b"pic")

    assert files(bucket, tmp_path).fetch([picture(0)])[0].path.read_bytes() == b"picture 0"


def test_download_that_breaks_off_leaves_no_file(bucket, tmp_path):
    def breaks(stored, file):
        file.write(b"pic")
        raise BucketUnavailableError("s3://pictures/0.jpg", "the connection broke.")

    with pytest.raises(BucketUnavailableError):
        files(Wrapped(bucket, download=breaks), tmp_path).fetch([picture(0)])

    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


def test_short_download_is_an_error(bucket, tmp_path):
    wrapped = Wrapped(bucket, download=lambda stored, file: file.write(b"pic"))

    with pytest.raises(BucketUnavailableError, match="its size is not the listed one"):
        files(wrapped, tmp_path).fetch([picture(0)])


def test_what_cannot_be_read_is_named_with_its_reason(bucket, tmp_path):
    def refuse(stored, file):
        raise BucketAccessError("s3://pictures/1.jpg", "access is refused.")

    media = files(Wrapped(bucket, download=refuse), tmp_path)
    others = [
        MediaObject(1, "image", uri)
        for uri in ("https://example.com/1.jpg", "/data/upload/1.jpg", "gs://other/1.jpg")
    ]

    assert media.fetch([picture(9), picture(1), *others]) == []
    assert [reason.partition(": ")[2] for reason in media.missing.values()] == [
        "the object does not exist (any more).",
        "access is refused.",
        "it is not in a bucket, and nothing else is read.",
        "it is not in a bucket, and nothing else is read.",
        "gs://other was not named as a bucket to read.",
    ]


def test_objects_are_fetched_in_parallel(bucket, tmp_path):
    together = threading.Barrier(3, timeout=30)

    def download(stored, file):
        together.wait()
        bucket.download(stored, file)

    wrapped = Wrapped(bucket, download=download)
    assert len(files(wrapped, tmp_path).fetch(map(picture, range(3)))) == 3


def test_damaged_pins_are_written_again(bucket, tmp_path):
    (tmp_path / "pins.json").write_text('{"a": 1}')

    assert len(files(bucket, tmp_path).fetch([picture(0)])) == 1
    assert "0.jpg" in (tmp_path / "pins.json").read_text()

"""A bucket in memory that passes the same suite as the real ones."""

from __future__ import annotations

import hashlib

from ls_pipeline.domain.errors import (
    BucketNotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ls_pipeline.domain.notification_setup import check_s3_notifications
from ls_pipeline.domain.objects import StoredObject
from ls_pipeline.resources.listing import ListedBucket, ListingPage


class MemoryBucket(ListedBucket):
    scheme = "s3"
    region = ""

    def __init__(self, name="memory", *, exists=True):
        self.name = name
        self.exists = exists
        self.objects = {}
        self.notifications = {}

    def _list(self, prefix, after, token, limit):
        self._check()
        after = (token or after).encode()
        keys = sorted((key for key in self.objects if key.startswith(prefix)), key=str.encode)
        keys = [key for key in keys if key.encode() > after]
        more, keys = len(keys) > limit, keys[:limit]
        bodies = [self.objects[key] for key in keys]
        objects = [
            StoredObject(key, _version(body), len(body))
            for key, body in zip(keys, bodies, strict=True)
        ]
        return ListingPage(
            keys[-1] if more else "", lambda: objects, str(objects) if objects else ""
        )

    def get(self, key, version=""):
        self._check()
        if key not in self.objects:
            raise ObjectNotFoundError(self.uri(key))
        body = self.objects[key]
        if version and version != _version(body):
            raise ObjectChangedError(self.uri(key))
        return body

    def download(self, stored, file):
        file.write(self.get(stored.key, stored.version))

    def put(self, key, body, content_type, if_version=None):
        self._check()
        current = _version(self.objects[key]) if key in self.objects else ""
        if if_version is not None and if_version != current:
            return self._find_written(key, body)
        self.objects[key] = bytes(body)
        return StoredObject(key, _version(body), len(body))

    def put_file(self, key, file, content_type):
        return self.put(key, file.read_bytes(), content_type)

    def copy(self, key, to, *, source=None, version=""):
        self.objects[to] = (source or self).get(key, version)

    def checksum(self, stored):
        return stored.version

    def delete(self, key):
        self._check()
        self.objects.pop(key, None)

    def check_notifications(self, destination, folder):
        return check_s3_notifications(self.notifications, destination, folder)

    def _check(self):
        if not self.exists:
            raise BucketNotFoundError(self.uri())


def _version(body):
    return hashlib.md5(body).hexdigest()  # noqa: S324 - as S3's ETags are

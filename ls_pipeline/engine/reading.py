"""Reads the objects that a run loads, with their sidecars."""

from __future__ import annotations

from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from ls_pipeline.domain.diff import Change
from ls_pipeline.domain.errors import NotATaskError, ObjectNotFoundError
from ls_pipeline.domain.formats.choice import TABLES, Reading
from ls_pipeline.domain.formats.objects import parse_sidecar, parse_tasks
from ls_pipeline.domain.sidecars import LARGEST as LARGEST_SIDECAR
from ls_pipeline.domain.sidecars import Sidecar, sidecar_key
from ls_pipeline.domain.tasks import Rejection, Task, blob_task, task_of
from ls_pipeline.engine.object_rows import Content, content_of
from ls_pipeline.resources.failures import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from ls_pipeline.domain.diff import Difference
    from ls_pipeline.domain.label_config import DataKey, LabelConfig
    from ls_pipeline.domain.objects import Filter, StoredObject
    from ls_pipeline.engine.context import RunContext
    from ls_pipeline.engine.manifest import Manifest
    from ls_pipeline.engine.object_rows import IsLoaded

IN_MEMORY = 8 * 2**20
"""Bytes of a table that is read into memory; a larger one is read from a temporary file."""


class ObjectReader:
    """Reads the objects of one source. Safe to use from several threads."""

    def __init__(
        self,
        run: RunContext,
        select: Filter,
        manifest: Manifest | None,
        label_config: LabelConfig,
        data_key: DataKey,
    ) -> None:
        self.bucket, self.objects, params = run.bucket, run.held.objects, run.source.params
        self.params, self.select, self.label_config = params, select, label_config
        self.manifest = manifest if params.fills_one_key else None
        self.data_key = data_key
        self.reading = Reading(params.format, params.column_map, data_key)

    @property
    def needs_no_request(self) -> bool:
        """Whether objects become tasks without being read."""
        return self.params.use_blob_urls and not self.params.sidecar_suffix

    def bytes_of(self, difference: Difference) -> int:
        """Return how much of an object is read, at most."""
        listed = difference.listed
        if listed is None or self.select.is_sidecar(listed.key):
            return 0
        sidecar = LARGEST_SIDECAR if self.params.sidecar_suffix else 0
        if self.params.use_blob_urls or self.reading.size_rejection(listed.key, listed.size):
            return sidecar
        return listed.size + sidecar

    def ignores(self, difference: Difference) -> bool:
        """Return whether a replaced object stays unread; what is in quarantine is tried again."""
        known = difference.known
        if self.params.on_change != "ignore" or difference.change is not Change.REPLACED:
            return False
        is_finished = bool(known and known.is_finished)
        return is_finished and not self.objects.is_quarantined(difference.key)

    def read(self, difference: Difference) -> Content:
        """Return the rows of an object; none of a sidecar's own.

        Raises ``BucketError``, such as ``ObjectChangedError``.
        """
        listed = difference.listed
        if listed is None or self.ignores(difference) or self.select.is_sidecar(listed.key):
            return content_of()
        sidecar = self._sidecar(listed.key)
        if sidecar and sidecar.error:
            return content_of(Rejection(None, sidecar.error), sidecar=sidecar)
        if self.params.use_blob_urls:
            return content_of(self._blob(self.bucket.uri(listed.key), sidecar), sidecar=sidecar)
        if rejection := self.reading.size_rejection(listed.key, listed.size):
            return content_of(rejection, sidecar=sidecar)
        if self.reading.format_of(listed.key) in TABLES and listed.size > IN_MEMORY:
            return self._read_file(listed)
        body = self.bucket.get(listed.key, listed.version)
        check_size(self.bucket.uri(listed.key), len(body), listed.size)
        return Content(self._parser(listed.key, body, sidecar), sidecar=sidecar)

    def _blob(self, uri: str, sidecar: Sidecar | None) -> Task | Rejection:
        if sidecar is None:
            return blob_task(uri, self.data_key)
        data = sidecar.merged(self.data_key.data_with(uri))
        return self._named(task_of(0, data, self.label_config), sidecar)

    def _named(self, item: Task | Rejection, sidecar: Sidecar) -> Task | Rejection:
        """Have a rejection name where the rest of the data is, or would be."""
        if isinstance(item, Task):
            return item
        uri = self.bucket.uri(sidecar.key)
        named = f"Its sidecar is {uri}." if sidecar.version else f"It has no sidecar, {uri}."
        named = f"Its manifest is {uri}." if self.manifest else named
        return Rejection(item.position, f"{item.reason} {named}", item.data)

    def _sidecar(self, key: str) -> Sidecar | None:
        if self.manifest:
            return self.manifest.sidecar(key)
        return self._read_sidecar(key) if self.params.sidecar_suffix else None

    def _read_sidecar(self, key: str) -> Sidecar:
        """Read the sidecar of an object as it is now."""
        sidecar = sidecar_key(key, self.params.sidecar_suffix)
        stored = self.bucket.find(sidecar)
        if stored is None:
            return Sidecar(sidecar)
        uri = self.bucket.uri(sidecar)
        if stored.size > LARGEST_SIDECAR:
            error = (
                f"Its sidecar, {uri}, has {stored.size:,} bytes; at most {LARGEST_SIDECAR:,} are "
                "read."
            )
            return Sidecar(sidecar, stored.version, error=error)
        try:
            form = parse_sidecar(self.bucket.get(sidecar, stored.version))
        except ObjectNotFoundError:
            return Sidecar(sidecar)
        except NotATaskError as error:
            return Sidecar(sidecar, stored.version, error=f"Its sidecar, {uri}: {error}")
        return Sidecar(sidecar, stored.version, form)

    def _read_file(self, listed: StoredObject) -> Content:
        """Download an object into a file without a name, which goes with the process."""
        file = TemporaryFile()  # noqa: SIM115 - `Content.close` closes it
        try:
            self.bucket.download(listed, file)
            check_size(self.bucket.uri(listed.key), file.tell(), listed.size)
        except BaseException:
            file.close()
            raise
        return Content(self._parser(listed.key, file), file)

    def _parser(
        self, key: str, content: bytes | BinaryIO, sidecar: Sidecar | None = None
    ) -> Callable[[IsLoaded], Iterable[Task | Rejection]]:
        parse = partial(parse_tasks, key, content, self.label_config, self.reading, sidecar=sidecar)
        if sidecar is None:
            return parse
        return lambda is_loaded: (self._named(item, sidecar) for item in parse(is_loaded))

"""What a folder for training will have, and what is there already: on disk, not in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE wanted (path TEXT PRIMARY KEY, split TEXT, task_id INT, uri TEXT, version TEXT);
CREATE TABLE before (uri TEXT, version TEXT, key TEXT, stored TEXT, size INT, checksum TEXT,
    PRIMARY KEY (uri, version));
CREATE TABLE copied (path TEXT PRIMARY KEY, uri TEXT, version TEXT, stored TEXT, size INT,
    checksum TEXT, is_there INT);
CREATE TABLE missing (task_id INT, uri TEXT, reason TEXT, PRIMARY KEY (task_id, uri));
"""


class Stored(NamedTuple):
    """A picture in a folder of ours."""

    key: str
    stored: str
    """The version that it has there."""
    checksum: str


class Picture(NamedTuple):
    """A picture that a folder will have."""

    path: str
    """Relative to the folder."""
    split: str
    task_id: int
    uri: str
    version: str
    """The version that was labeled; empty if only the address is known."""


class ToCopy(NamedTuple):
    """A picture to copy, and where it may be already."""

    picture: Picture
    there: str
    """The version that an earlier run copied; empty if none did."""
    elsewhere: dict[str, Stored]
    """Version → the picture in the folder of the snapshot before."""


class Copied(NamedTuple):
    """A version of an object that is in the folder."""

    path: str
    uri: str
    version: str
    checksum: str = ""


class FolderPlan:
    """A plan in a file, for one thread."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()

    # -- what will be there ---------------------------------------------------------------

    def want(self, picture: Picture) -> None:
        self._db.execute("INSERT OR REPLACE INTO wanted VALUES (?, ?, ?, ?, ?)", picture)

    def miss(self, uri: str, task_id: int, reason: str) -> None:
        """Record that a task's object can't be read."""
        self._db.execute("INSERT OR IGNORE INTO missing VALUES (?, ?, ?)", (task_id, uri, reason))

    def leave_out_missing(self) -> None:
        """Leave out all pictures of tasks that miss one."""
        tasks = "SELECT task_id FROM missing"
        self._db.execute(f"DELETE FROM wanted WHERE task_id IN ({tasks})")  # noqa: S608 - no input

    def misses(self, task_id: int) -> bool:
        """Return whether a task misses an object."""
        sql = "SELECT 1 FROM missing WHERE task_id = ? LIMIT 1"
        return self._db.execute(sql, (task_id,)).fetchone() is not None

    def missing(self) -> Iterator[dict[str, Any]]:
        """Yield the objects that can't be read, with their tasks and the reasons."""
        for task_id, uri, reason in self._db.execute("SELECT * FROM missing ORDER BY task_id, uri"):
            yield {"task_id": task_id, "uri": uri, "reason": reason}

    def count_missing(self) -> int:
        return int(self._db.execute("SELECT COUNT(DISTINCT uri) FROM missing").fetchone()[0])

    # -- what is there --------------------------------------------------------------------

    def add_before(self, root: str, entries: Iterable[dict[str, Any]]) -> None:
        """Add the pictures of an earlier folder at ``root``, unless a later one has them.

        What a run that was cut off wrote down has no stored version.
        """
        rows = ({"stored": "", "size": -1, **each, "key": root + each["path"]} for each in entries)
        sql = (
            "INSERT OR IGNORE INTO before VALUES (:uri, :version, :key, :stored, :size, :checksum)"
        )
        self._db.executemany(sql, rows)

    def add_copied(self, copied: Copied, stored: str = "") -> None:
        """Record that a picture was copied, in this run or an earlier one.

        ``stored`` is the version that it has in the folder, if that is known.
        """
        path, uri, version, checksum = copied
        row = (path, uri, version, stored, -1, checksum, 0)
        self._db.execute("INSERT OR REPLACE INTO copied VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def see(self, path: str, stored: str, size: int) -> bool:
        """Record that the bucket has a picture; return whether it is wanted."""
        sql = (
            "UPDATE copied SET stored = ?, size = ?, is_there = 1 "
            "WHERE path = ? AND stored IN ('', ?)"
        )
        self._db.execute(sql, (stored, size, path, stored))
        sql = "SELECT 1 FROM wanted WHERE path = ?"
        return self._db.execute(sql, (path,)).fetchone() is not None

    def forget_unseen(self) -> None:
        """Forget the pictures that the bucket does not have."""
        self._db.execute("DELETE FROM copied WHERE is_there = 0")

    def forget_copied(self) -> None:
        """Forget all that is in the folder."""
        self._db.execute("DELETE FROM copied")

    def to_copy(self) -> Iterator[ToCopy]:
        """Yield each wanted picture."""
        before = "SELECT version, key, stored, checksum FROM before WHERE uri = ?"
        there = "SELECT version FROM copied WHERE path = ? AND uri = ?"
        for row in self._db.execute("SELECT * FROM wanted ORDER BY path"):
            picture = Picture(*row)
            version = self._db.execute(there, (picture.path, picture.uri)).fetchone()
            found = self._db.execute(before, (picture.uri,))
            stored = {each[0]: Stored(*each[1:]) for each in found}
            yield ToCopy(picture, version[0] if version else "", stored)

    def absent(self) -> str:
        """Return the path of a wanted picture that the bucket does not have; empty if all are."""
        sql = (
            "SELECT path FROM wanted LEFT JOIN copied USING (path) WHERE is_there IS NOT 1 LIMIT 1"
        )
        row = self._db.execute(sql).fetchone()
        return row[0] if row else ""

    def pictures(self) -> Iterator[dict[str, Any]]:
        """Yield what a folder's index says of each picture."""
        names = ("path", "task_id", "uri", "version", "stored", "size", "checksum")
        sql = (
            "SELECT path, task_id, wanted.uri, copied.version, stored, size, checksum "
            "FROM wanted JOIN copied USING (path) ORDER BY path"
        )
        for row in self._db.execute(sql):
            yield dict(zip(names, row, strict=True))

    def tally(self) -> dict[str, tuple[int, int]]:
        """Return split → pictures and bytes."""
        sql = (
            "SELECT split, COUNT(*), SUM(size) FROM wanted JOIN copied USING (path) GROUP BY split"
        )
        return {split: (count, size) for split, count, size in self._db.execute(sql)}

    # -- the same bytes in several splits -------------------------------------------------

    def alike(self) -> Iterator[tuple[str, str, int]]:
        """Yield the pictures as large as one of another split, without a checksum yet.

        Each is its path, the version that is stored, and the size.
        """
        self._db.execute(
            "CREATE TABLE sizes AS SELECT size FROM copied JOIN wanted USING (path) "
            "GROUP BY size HAVING COUNT(DISTINCT split) > 1"
        )
        sql = (
            "SELECT path, stored, size FROM copied JOIN wanted USING (path) "
            "WHERE path > ? AND checksum = '' AND size IN sizes ORDER BY path LIMIT 1000"
        )
        path = ""  # in pages, because checksums are set meanwhile
        while rows := self._db.execute(sql, (path,)).fetchall():
            yield from rows
            path = rows[-1][0]

    def set_checksum(self, path: str, checksum: str) -> None:
        self._db.execute("UPDATE copied SET checksum = ? WHERE path = ?", (checksum, path))

    def leaks(self) -> tuple[int, list[str]]:
        """Return the number of pictures with the bytes of one in another split; and two of them."""
        groups = (
            "SELECT checksum FROM copied JOIN wanted USING (path) WHERE checksum != '' "
            "GROUP BY checksum HAVING COUNT(DISTINCT split) > 1"
        )
        sql = (
            "SELECT checksum, split, MIN(path), COUNT(*) "  # noqa: S608 - no input
            f"FROM copied JOIN wanted USING (path) WHERE checksum IN ({groups}) "
            "GROUP BY checksum, split ORDER BY checksum, split"
        )
        rows = self._db.execute(sql).fetchall()
        example = [path for checksum, _, path, _ in rows if checksum == rows[0][0]]
        return sum(count for *_, count in rows), example[:2]

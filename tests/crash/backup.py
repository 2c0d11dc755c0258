"""Backups of SQLite databases that servers and runs are using, and what is in them."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"


def back_up_sqlite(source, to):
    """Copy a database, as its backup, or from it."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(to)) as new:
        old.backup(new)


def table_digests(file):
    """Return a hash of the rows of each table."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        names = [name for (name,) in db.execute(TABLES)]
        rows = {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}  # noqa: S608
    return {name: hashlib.sha256(repr(rows[name]).encode()).hexdigest() for name in names}

"""What released versions left behind: a small ledger of each, with rows in every table.

``python -m tests.resources.ledger.released_ledgers VERSION`` freezes one of this code, once,
when it is released.
"""

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from ls_pipeline.resources.ledger.tables import metadata
from tests.bench import RESULT, Bench
from tests.postgresql import postgresql, programs

RELEASED = Path(__file__).with_name("released")
VERSIONS = sorted(file.name.removesuffix(".sqlite.sql") for file in RELEASED.glob("*.sqlite.sql"))


def lay_down(version, url):
    """Make an empty database what a version left behind."""
    url = sa.make_url(url)
    script = RELEASED.joinpath(f"{version}.{url.get_backend_name()}.sql").read_text()
    if url.get_backend_name() == "sqlite":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(url.database)
        db.executescript(script)
        db.close()
        return
    import psycopg

    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False)) as db:
        db.execute(script)


def live(url):
    """Do a bit of everything with a ledger that ends with rows in all tables."""
    bench = Bench(url)
    for key in ("Z.json", "a.json", "\x01 b.json", "ü.json", "gone.json"):
        bench.put(key, {"text": key})
    bench.put("lines.jsonl", b'{"text": "1"}\n[]\n')
    bench.put("bad.json", b"not json")
    bench.load()
    bench.bucket.delete("gone.json")
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    bench.app.annotate(bench.task_id("ü.json"), RESULT)
    bench.export()
    bench.snapshot()
    bench.app.delete_task(bench.task_id("ü.json"))
    bench.export()
    bench.account.failed("completions", "It is down.")
    with bench.account.lease() as lease:
        bench.account.set_milestones(lease, ["Z.json", "a.json"])
        rows = list(bench.account.rows_of("a.json").values())
        bench.account.doubt(lease, bench.account.open_attempt(lease, 1, 2**40, rows))
    bench.set(prefix="other/")
    bench.ledger.save(bench.ledger.connection("reviews").model_copy(update={"name": "old"}), "test")
    bench.ledger.remove("old")
    with bench.ledger.engine.connect() as db:
        empty = [
            table.name for table in metadata.sorted_tables if not db.execute(table.select()).all()
        ]
    assert not empty, empty
    bench.ledger.engine.dispose()


def _freeze(version):
    with tempfile.TemporaryDirectory() as folder:
        live(f"sqlite:///{folder}/ledger.db")
        db = sqlite3.connect(f"{folder}/ledger.db")
        _write(version, "sqlite", db.iterdump())
        db.close()
        with postgresql(Path(folder)) as server, server.database() as url:
            live(url)
            command = [programs() / "pg_dump", "--inserts", "--no-owner", "--no-privileges"]
            command.append(url.replace("+psycopg", ""))
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            _write(version, "postgresql", filter(_is_ours, said.splitlines()))


def _is_ours(line):
    """Tell apart what only a server like that one or the program psql understands."""
    return line and not line.startswith(("--", "SET ", "SELECT pg_catalog.set_config", "\\"))


def _write(version, kind, lines):
    RELEASED.joinpath(f"{version}.{kind}.sql").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _freeze(sys.argv[1])

"""How `ls-pipeline sync` ends on a signal, and what it passes to the runs."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.settings.validation import build_connection
from tests.assets.test_consent import MANY, emptied, emptied_files  # noqa: F401 - a fixture
from tests.cli.memory_context import MemoryContext


def sync(bench, instance, *words):
    """Run the command; return its exit code, and its report on the connection."""
    result = CliRunner().invoke(
        main, ["sync", "reviews", *words, "--json"], obj=MemoryContext(bench, instance)
    )
    return result.exit_code, json.loads(result.stdout)["connections"]["reviews"]


def test_mass_changes_need_the_flag(emptied, instance):  # noqa: F811
    code, report = sync(emptied, instance)
    left = len(emptied.app.tasks), emptied_files(emptied)

    assert (code, left) == (1, (2 * MANY, 0))
    assert report["error"].count("`ls-pipeline sync reviews --allow-mass-change`") == 2


def test_allowed_mass_changes_happen_to_tasks_and_files(emptied, instance):  # noqa: F811
    code, report = sync(emptied, instance, "--allow-mass-change")

    assert (code, report["tasks"]) == (0, 0)
    assert (emptied.app.tasks, emptied_files(emptied)) == ({}, MANY)


def test_mass_changes_are_not_allowed_for_all_connections_at_once(bench, instance):
    refused = CliRunner().invoke(
        main, ["sync", "--allow-mass-change"], obj=MemoryContext(bench, instance)
    )

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Name the connections that --allow-mass-change is for." in refused.stderr


def test_fault_of_one_connection_ends_no_other(bench, instance, monkeypatch):
    connection = bench.connection_ledger.settings.in_force().connection
    bench.ledger.save(connection.model_copy(update={"name": "faulty", "project": "F"}), "test")
    bench.put("a.json", {"text": "a"})
    known = instance.has_dynamic_partition

    def has_dynamic_partition(*given, **named):
        if "faulty" in given:
            raise IsADirectoryError(21, "Is a directory", "/token")
        return known(*given, **named)

    monkeypatch.setattr(instance, "has_dynamic_partition", has_dynamic_partition)
    cli = MemoryContext(bench, instance)
    result = CliRunner().invoke(main, ["sync", "faulty", "reviews", "--json"], obj=cli)
    reports = json.loads(result.stdout)["connections"]

    assert (result.exit_code, reports["reviews"]["tasks"]) == (1, 1)
    assert "/token" in reports["faulty"]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sync_stopped_in_the_background_starts_no_other_run(environment, number):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        environment.setenv(name, "us-east-1")
    ledger = Ledger(database_url())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("cats", "dogs"):
            source = {"type": "s3", "path": name, "params": {"endpoint_url": endpoint}}
            ledger.save(build_connection(name, source=source, target=None, project=name), "test")
        command = [Path(sys.executable).with_name("ls-pipeline"), "sync"]
        with subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" INT; exec "$0" "$@"', *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as background:
            try:
                link, _ = silent.accept()
                with link:
                    background.send_signal(number)
                    shown = background.communicate(timeout=60)
            finally:
                background.kill()

    assert (background.returncode, shown[0]) == (130, "")
    assert "Aborted!" in shown[1]
    assert ledger.connection_ledger("cats").held_by() == ""


@pytest.mark.slow
def test_first_snapshot_does_without_what_takes_memory():
    script = """
import sys
from ls_pipeline.cli.sync import keep_pandas_out, keep_pygments_out
keep_pygments_out()
keep_pandas_out()
from ls_pipeline.cli.context import CliContext
from ls_pipeline.domain.completions import parse_completion
from ls_pipeline.domain.snapshot import leaks, parts, splits, tables
annotation = {"id": 1, "result": [{"type": "choices", "value": {"choices": ["a"]}}]}
task = {"id": 1, "updated_at": "", "data": {"text": "x"}, "annotations": [annotation]}
rows = tables.table_rows([parse_completion(task)], splits.SplitRule())
new = {name: [parts.to_table(name, rows[name])] for name in rows}
merged = {name: parts.merge_tables(name, [], [], new[name]) for name in rows}
assert all(map(parts.write_parquet, merged.values()))
finder = leaks.LeakFinder("")
finder.add(merged["tasks"])
assert finder.find().contents == 0
heavy = {"pandas", "pygments", "pyarrow.compute", "pyarrow.dataset"}
sys.exit(" ".join(heavy & {*sys.modules}) or None)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_pandas_is_imported_only_for_a_frame():
    program = """
import sys
from ls_pipeline.cli.sync import keep_pandas_out
keep_pandas_out()
import pyarrow as pa
table = pa.Table.from_pylist([{"a": 1}])
assert "pandas" not in sys.modules
assert table.to_pandas()["a"].sum() == 1
assert pa.array(sys.modules["pandas"].Series([2])).to_pylist() == [2]
"""
    subprocess.run([sys.executable, "-c", program], check=True)

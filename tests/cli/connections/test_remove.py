"""A connection is removed once nothing that a run began is half done."""

import json

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.domain.errors import LabelStudioUnavailableError
from tests.bench import RESULT, Bench
from tests.cli.memory_context import MemoryContext
from tests.engine.test_crashes import Killed
from tests.engine.test_load import Wrapped
from tests.engine.test_settle import killed_at


@pytest.fixture
def cut_off(empty_ledger):
    """Return a bench whose export was killed before it wrote the file of a label."""
    bench = Bench(empty_ledger)
    bench.put("a.json", {"text": "a"})
    bench.load()
    bench.app.annotate(bench.task_id("a.json"), RESULT)
    with pytest.raises(Killed):
        bench.export(killed_at(bench.target, "put", 1, before=True))
    bench.key = f"{bench.task_id('a.json')}.json"
    return bench


def remove(bench, *words, **parts):
    context = MemoryContext(bench, **parts)
    return CliRunner().invoke(main, ["connections", "remove", "reviews", *words], obj=context)


@pytest.fixture
def down(cut_off):
    """Return a labeling app that does not answer."""

    def fail(*_):
        raise LabelStudioUnavailableError("Label Studio does not answer.")

    return Wrapped(cut_off.app, existing_projects=fail)


def test_what_a_run_began_is_finished_first(cut_off):
    done = remove(cut_off, "--json")

    assert json.loads(done.stdout) == {"connection": "reviews", "removed": True, "notes": []}
    assert (done.exit_code, cut_off.ledger.names()) == (0, [])
    assert cut_off.key in cut_off.target.objects


def test_connection_is_kept_if_label_studio_is_down(cut_off, down):
    done = remove(cut_off, label_studio=down)

    assert (done.exit_code, done.stdout, cut_off.ledger.names()) == (1, "", ["reviews"])
    assert done.stderr == (
        "Error: Connection 'reviews' was not removed, because what a run began could not be "
        "finished: Label Studio does not answer. Try again later, or add --force: then it is "
        "finished if you add the connection again.\n"
    )


def test_connection_is_kept_if_the_target_is_gone(cut_off):
    cut_off.target.exists = False
    done = remove(cut_off)

    assert (done.exit_code, cut_off.ledger.names()) == (1, ["reviews"])
    assert "s3://labels/: the bucket does not exist." in done.stderr


def test_forced_removal_is_finished_if_the_connection_comes_back(cut_off, down):
    done = remove(cut_off, "--force", label_studio=down)
    names, files = cut_off.ledger.names(), dict(cut_off.files)
    cut_off.set()
    cut_off.load()
    cut_off.export()

    assert (done.exit_code, names, files) == (0, [], {})
    assert cut_off.key in cut_off.target.objects
    assert len(cut_off.tasks) == 1


def test_connection_on_which_a_run_works_is_kept(cut_off, environment):
    environment.setattr("ls_pipeline.cli.connections.holding.PATIENCE", 0)
    with cut_off.connection_ledger.acquire():
        kept = remove(cut_off)
        names = cut_off.ledger.names()
        forced = remove(cut_off, "--force")

    assert (kept.exit_code, names) == (1, ["reviews"])
    assert "is being worked on by" in kept.stderr
    assert (forced.exit_code, cut_off.ledger.names()) == (0, [])


@pytest.mark.parametrize("words", [[], ["--force"]])
def test_nobody_is_asked_if_nothing_is_open(bench, words):
    bench.load()
    done = remove(bench, *words, label_studio=None, s3=None, gcs=None)

    assert (done.exit_code, done.stdout) == (0, "Connection 'reviews' was removed.\n")
    assert bench.ledger.names() == []


def test_partition_of_the_connection_is_removed(bench, instance):
    instance.add_dynamic_partitions("connections", ["reviews", "cats"])
    done = remove(bench, instance=instance)

    assert done.exit_code == 0
    assert instance.get_dynamic_partitions("connections") == ["cats"]


def test_connection_is_removed_though_dagster_fails(bench, instance, monkeypatch):
    def fail(*_):
        raise OSError("The disk is full.")

    monkeypatch.setattr(type(instance), "delete_dynamic_partition", fail)
    done = remove(bench, instance=instance)

    assert (done.exit_code, bench.ledger.names()) == (0, [])

import io
import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ls_pipeline.cli.console import PlainConsole
from ls_pipeline.cli.main import main
from ls_pipeline.cli.quarantine import _table
from ls_pipeline.domain.text import visible
from ls_pipeline.resources.ledger.records import Quarantined
from tests.bench import Bench
from tests.domain.test_text import TEXTS, controls


@pytest.fixture
def bench(empty_ledger, environment):
    environment.setenv("COLUMNS", "200")
    bench = Bench(empty_ledger)
    environment.setenv("LS_PIPELINE_DATABASE_URL", bench.url)
    bench.put("a.json", b"not json")
    bench.put("b\n.json", [{"text": "0"}, {"no": "text"}])
    bench.load()
    return bench


def run(*words):
    return CliRunner().invoke(main, ["quarantine", *words])


def test_what_is_in_quarantine_is_listed_with_its_reason(bench):
    shown = run("list").stdout

    assert "Not JSON: Expecting value (line 1, column 1)." in shown
    assert r"b\n.json" in shown


def test_list_is_json_on_demand(bench):
    items = json.loads(run("list", "reviews", "--json").stdout)["connections"]["reviews"]

    assert [(item["key"], item["row"]) for item in items] == [("a.json", None), ("b\n.json", 1)]


def test_retried_object_is_tried_by_the_next_run_and_its_good_rows_are_not_doubled(bench):
    done = run("retry", "reviews")
    bench.app.projects[1] = (bench.app.projects[1][0], '<View><Text name="n" value="$no"/></View>')
    freed = bench.reasons
    bench.load()

    assert "try 2 objects of 'reviews' again" in done.stdout
    assert freed == {}
    assert list(bench.tasks) == [("b\n.json", 0), ("b\n.json", 1)]


def test_one_object_is_retried_alone(bench):
    done = run("retry", "reviews", "a.json", "--json")

    assert json.loads(done.stdout) == {"connection": "reviews", "keys": ["a.json"]}
    assert list(bench.reasons) == [("b\n.json", 1)]


def test_object_that_is_not_in_quarantine_is_reported(bench):
    done = run("retry", "reviews", "c.json")

    assert done.exit_code == 2
    assert "Not in the quarantine of 'reviews': 'c.json'" in done.stderr


def test_empty_quarantine_is_reported(bench):
    run("retry", "reviews")

    assert run("list").stdout == "Nothing is in quarantine.\n"


HOSTILE = "\x1b[2J\x9b31m\u202e\r\n[red]:smile:[/][link=http://evil.example]x[/link]\x7f"


def test_list_controls_no_terminal_and_takes_no_markup(bench):
    bench.put("\x1b[2J[red]\u202e", b"not json")
    bench.load()
    shown = run("list").stdout

    assert r"│ \x1b[2J[red]\u202e " in shown
    assert controls(shown.replace("\n", "")) == []


def test_json_of_hostile_keys_is_ascii_and_has_them_as_they_are(bench):
    bench.put(f"{HOSTILE}.json", b"not json")
    bench.load()
    shown = run("list", "--json").stdout
    keys = [item["key"] for item in json.loads(shown)["connections"]["reviews"]]

    assert f"{HOSTILE}.json" in keys
    assert (shown.strip().isprintable(), shown.isascii()) == (True, True)


ITEMS = st.lists(st.builds(Quarantined, TEXTS, st.none() | st.integers(0), TEXTS, TEXTS, TEXTS))


@given(ITEMS)
def test_list_has_one_row_for_each_item_whatever_its_text(items):
    console = PlainConsole(file=io.StringIO(), width=10_000)
    console.print(_table({"reviews": items}))
    head, *rows, end, rest = console.file.getvalue().split("\n")[2:]

    assert (head[:1], end[:1], rest) == ("┡", "└", "")
    assert len(rows) == len(items)
    assert controls("".join(rows)) == []
    for row, item in zip(rows, items, strict=True):
        assert visible(item.key) in row
        assert visible(item.reason) in row

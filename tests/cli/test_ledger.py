from click.testing import CliRunner

from ls_pipeline.cli.main import main
from ls_pipeline.resources.home import database_url
from ls_pipeline.resources.ledger import Ledger
from tests.assets.conftest import Bench


def test_ledger_is_copied_and_goes_on_there(environment, tmp_path):
    bench = Bench(database_url())
    url = f"sqlite:///{tmp_path}/new.db"
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", url])
    new = Ledger(url)

    assert done.exit_code == 0, done.output
    assert "2 rows are copied" in done.stdout
    assert new.names() == [bench.name]
    for one in (bench.ledger, new):
        one.engine.dispose()


def test_database_that_is_none_is_told(environment):
    done = CliRunner().invoke(main, ["ledger", "copy", "--to", "nosql://x"])

    assert (done.exit_code, "can't be opened" in done.stderr) == (1, True)

"""A ledger on each kind of database."""

import pytest

from ls_pipeline.resources.ledger.ledger import Ledger


@pytest.fixture
def ledger(database_url):
    ledger = Ledger(database_url)
    yield ledger
    ledger.close()

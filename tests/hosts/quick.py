"""What the tests' hosts run: the definitions, with a short lease, and imports in small batches.

A connection of a few dozen objects then runs long enough to be caught in the middle.
"""

import os
from datetime import timedelta

from ls_pipeline.assets import partitions
from ls_pipeline.definitions import defs
from ls_pipeline.engine import import_queue
from ls_pipeline.resources.ledger import lease as ledger_lease

__all__ = ["defs"]

ledger_lease.LEASE_SECONDS = float(os.environ["LEASE_SECONDS"])
partitions._ACQUIRE_TIME = timedelta(seconds=ledger_lease.LEASE_SECONDS)
import_queue.BATCH_ROWS = 8

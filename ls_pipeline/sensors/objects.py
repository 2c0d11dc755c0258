"""What the object sensors of both clouds do."""

from __future__ import annotations

import json
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from ls_pipeline.assets.copying import is_due
from ls_pipeline.domain.changes import WORK, compare
from ls_pipeline.domain.errors import BucketError
from ls_pipeline.sensors.watching import Tick, in_turn, must_wait, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from ls_pipeline.connections import Source
    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.resources.ledger import Ledger
    from ls_pipeline.resources.ledger_account import Account


def look_for_changes(
    context: dg.SensorEvaluationContext,
    ledger: Ledger,
    cloud: str,
    open_bucket: Callable[[Source], Bucket],
) -> dg.SensorResult:
    """Compare the buckets of one cloud with the ledger; ask for a run where they differ.

    Reads only. A tick that runs out of time is continued by the next: the cursor says at
    which connection, after which key.
    """
    accounts = {
        account.name: account
        for account in watched(ledger, lambda one: _source(one, cloud) is not None)
    }
    at, after = json.loads(context.cursor) if context.cursor else ("", "")
    tick = Tick()
    rest = deque(in_turn(list(accounts), at))
    while rest:
        name = rest.popleft()
        begin = after if name == at else ""
        at, after = name, _look(context, accounts[name], cloud, open_bucket, begin, tick)
        if tick.over:
            break
    if rest and not after:
        at = rest[0]
    return tick.result(context, accounts, json.dumps([at, after]))


def _source(account: Account, cloud: str) -> Source | None:
    source = account.revision().connection.source
    return source if source and source.cloud == cloud else None


def _look(  # noqa: PLR0913, PLR0917 - a step of `look_for_changes`
    context: dg.SensorEvaluationContext,
    account: Account,
    cloud: str,
    open_bucket: Callable[[Source], Bucket],
    after: str,
    tick: Tick,
) -> str:
    """Look at one connection; give the key after which the next tick goes on, if any."""
    source = _source(account, cloud)
    if source is None:
        return ""
    if reason := must_wait(context.instance, account, "tasks"):
        tick.reasons.append(reason)
        return ""
    try:
        differs, reached = _differs(account, source, open_bucket(source), after, tick)
    except BucketError as error:
        tick.reasons.append(f"{account.name}: {error}")
        return ""
    if differs:
        tick.wanted.append(account.name)
    elif not reached:
        tick.reasons.append(f"{account.name}: nothing new.")
    return "" if differs else reached


def _differs(
    account: Account, source: Source, bucket: Bucket, after: str, tick: Tick
) -> tuple[bool, str]:
    """Tell whether anything differs, else how far the time sufficed (empty: to the end)."""
    if account.has_attempt_due() or is_due(account, source):
        return True, ""
    if account.outlived_quarantine(source.params.reading):
        return True, ""
    select = source.params.filter
    known = partial(account.known_pages, select.folder)
    pieces = bucket.pieces(select.folder, after, account.milestones(select, after))
    for stretch in compare(known, pieces, select, after):
        if any(one.change in WORK for one in stretch.differences):
            return True, ""
        if tick.over:
            return False, stretch.upto
    return False, ""

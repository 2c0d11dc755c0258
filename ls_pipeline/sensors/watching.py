"""What the sensors share: whose turn it is, who must wait, and what a tick may cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ls_pipeline.resources.ledger import Ledger
    from ls_pipeline.resources.ledger_account import Account

TICK_SECONDS = 10.0
"""What a tick may take. Dagster gives up after 60 s, without stopping the function."""

RUN_TAG = "ls_pipeline/connection"
"""Of every run of ours: the connection it works on."""

_ABOUT_TO_WORK = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_TO_TAKE_THE_LEASE = timedelta(minutes=1)
"""What a run may take from its start until it holds its connection."""


@dataclass
class Tick:
    """What a tick found: which connections need a run, and why others don't."""

    wanted: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unsure: bool = False
    """Whether a connection was passed over that may need a run."""
    checked: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    """What it found of the assets' state."""
    deadline: float = field(default_factory=lambda: time.monotonic() + TICK_SECONDS)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    def result(
        self, context: dg.SensorEvaluationContext, names: Iterable[str], cursor: str
    ) -> dg.SensorResult:
        """Ask for the runs that are wanted, else say why there are none."""
        for reason in self.reasons:
            context.log.info(reason)
        requests = [dg.RunRequest(partition_key=name, tags={RUN_TAG: name}) for name in self.wanted]
        missing = [name for name in names if not _is_partition(context.instance, name)]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else " ".join(self.reasons) or "Nothing to watch yet.",
            dynamic_partitions_requests=[CONNECTIONS.build_add_request(missing)] if missing else [],
            cursor=cursor,
            asset_events=self.checked,
        )


def _is_partition(instance: dg.DagsterInstance, name: str) -> bool:
    return instance.has_dynamic_partition("connections", name)


def must_wait(instance: dg.DagsterInstance, account: Account, work: str) -> str:
    """Say why a connection must not get a run now; empty when it may."""
    if holder := account.held_by():
        return f"{account.name}: {holder} is working on it."
    if _is_coming(instance, account.name):
        return f"{account.name}: a run is under way."
    health = account.health(work)
    if health.retry_at > account.ledger.clock():
        again = datetime.fromtimestamp(health.retry_at, timezone.utc)
        return f"{account.name}: {health.failure} Trying again at {again:%H:%M:%S} UTC."
    return ""


def _is_coming(instance: dg.DagsterInstance, name: str) -> bool:
    """Tell whether a run will soon hold the connection.

    A run that started long ago either holds the lease or was killed: after a crash of the
    machine Dagster goes on calling it started.
    """
    mine = {RUN_TAG: name}
    lately = datetime.now(timezone.utc) - _TO_TAKE_THE_LEASE
    started = [dg.DagsterRunStatus.STARTED]
    return bool(
        instance.get_runs(dg.RunsFilter(statuses=_ABOUT_TO_WORK, tags=mine), limit=1)
        or instance.get_runs(
            dg.RunsFilter(statuses=started, tags=mine, created_after=lately), limit=1
        )
    )


def in_turn(names: Sequence[str], first: str) -> list[str]:
    """Order names so that ``first`` comes first, and nobody is always last."""
    later = [name for name in names if name >= first]
    return later + [name for name in names if name < first]


def watched(ledger: Ledger, select: Callable[[Account], bool]) -> list[Account]:
    """List the accounts of the enabled connections that a sensor looks after, by name."""
    accounts = [ledger.account(name) for name in ledger.names()]
    return [one for one in accounts if one.revision().connection.enabled and select(one)]

"""What the sensors share: who is watched, who must wait, and what a tick says."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg

from ls_pipeline.assets.partitions import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ls_pipeline.resources.ledger.ledger import Ledger
    from ls_pipeline.resources.ledger.status import Standing
    from ls_pipeline.sensors.probes import ProbeResult
    from ls_pipeline.settings.model import Connection

TICK_SECONDS = 10.0
"""What a tick may take. Dagster gives up after 60 s, without stopping the function."""

SENTENCES_AT_MOST = 20
NAMES_AT_MOST = 3
"""What a tick says is kept with it: of two hundred connections it says the most of it once."""


@dataclass
class Tick:
    """What a tick found: which connections need a run, and why others don't.

    ``job`` is which, of a sensor that asks for runs of several.
    """

    job: str | None = None
    wanted: list[str] = field(default_factory=list)
    said: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Reasons, and the connections that each is about; those that matter come first."""
    quiet: list[str] = field(default_factory=list)
    """Connections of which nothing is to be said."""
    idle: str = "Nothing to watch yet."
    """What is said where there is nothing else to say."""
    checked: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    """What it found of the assets' state."""
    deadline: float = field(default_factory=lambda: time.monotonic() + TICK_SECONDS)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    def take(self, name: str, found: ProbeResult) -> None:
        """Keep what a look found that came to its end."""
        if found.wanted:
            self.wanted.append(name)
        elif found.why:
            self.skip(name, found.why)
        else:
            self.quiet.append(name)

    def skip(self, name: str, why: str) -> None:
        self.said[why].append(name)

    def sentences(self, nothing: str) -> list[str]:
        """Say why connections get no run; ``nothing`` is what is said of the quiet ones."""
        found = [f"{_listed(names)}: {why}" for why, names in self.said.items()]
        more = len(found) - SENTENCES_AT_MOST
        found = found[:SENTENCES_AT_MOST] + ([f"And {more} more of such."] if more > 0 else [])
        return found + ([f"{_listed(self.quiet)}: {nothing}"] if self.quiet else [])

    @property
    def requests(self) -> list[dg.RunRequest]:
        return [dg.RunRequest(partition_key=name, job_name=self.job) for name in self.wanted]

    def result(
        self,
        context: dg.SensorEvaluationContext,
        names: Iterable[str],
        cursor: str,
        nothing: str,
        others: Sequence[dg.RunRequest] = (),
    ) -> dg.SensorResult:
        """Ask for the runs that are wanted, and these others, else say why there are none."""
        requests = [*self.requests, *others]
        said = self.sentences(nothing)
        if requests:  # a log is a file that nobody removes: an idle tick has none
            for sentence in said:
                context.log.info(sentence)
        known = set(context.instance.get_dynamic_partitions("connections"))
        missing = [name for name in names if name not in known]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else " ".join(said) or self.idle,
            dynamic_partitions_requests=[CONNECTIONS.build_add_request(missing)] if missing else [],
            cursor=cursor,
            asset_events=self.checked,
        )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= NAMES_AT_MOST:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} others"


def skip_reason(standing: Standing, coming: Collection[str], work: str) -> str:
    """Say why a connection must not get a run now; empty when it may."""
    if standing.held_by:
        return f"{standing.held_by} is working on it."
    if standing.name in coming:
        return "a run is under way."
    health = standing.health(work)
    if health.retry_at > standing.account.ledger.clock():
        again = datetime.fromtimestamp(health.retry_at, timezone.utc)
        return f"{health.failure} Trying again at {again:%H:%M:%S} UTC."
    return ""


def rotate(names: Sequence[str], first: str) -> list[str]:
    """Order names so that ``first`` comes first, and nobody is always last."""
    later = [name for name in names if name >= first]
    return later + [name for name in names if name < first]


def enabled_statuses(ledger: Ledger, select: Callable[[Connection], bool]) -> dict[str, Standing]:
    """Tell how the enabled connections stand that a sensor looks after, by name."""
    return {
        one.name: one
        for one in ledger.standings()
        if one.connection.enabled and select(one.connection)
    }

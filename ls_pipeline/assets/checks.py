"""What a pass must be able to say of itself."""

import dagster as dg

from ls_pipeline.assets.loading import Loading
from ls_pipeline.domain.changes import State
from ls_pipeline.resources.ledger import Account

BALANCE = dg.AssetCheckSpec(
    "accounts_balance",
    asset="tasks",
    description="Every object that the bucket listed is accounted for: loaded, filtered, in "
    "quarantine, or pending.",
)


def balance(account: Account, folder: str, done: Loading) -> dg.AssetCheckResult:
    """Compare what the pass was told by the bucket with what the ledger says afterwards."""
    states = account.count_objects(folder)
    parts = {
        "loaded": states[State.LOADED],
        "filtered": done.filtered,
        "quarantined": states[State.QUARANTINED],
        "pending": done.pending,
    }
    off = done.listed - sum(parts.values())
    said = "Every listed object is accounted for."
    if off:
        said = (
            f"The ledger has {abs(off)} too {'few' if off > 0 else 'many'} objects; the next pass "
            "looks again. If this stays, report it."
        )
    return dg.AssetCheckResult(
        check_name=BALANCE.name,
        passed=off == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=said,
        metadata={"listed": done.listed, **parts},
    )


def nothing_to_balance() -> dg.AssetCheckResult:
    """Pass, because nothing was listed."""
    return dg.AssetCheckResult(
        check_name=BALANCE.name, passed=True, description="Nothing was listed."
    )

"""The ``completions`` sensor: looks for labels that were finished, edited or deleted."""

import json

import dagster as dg

from ls_pipeline.assets.checks import COMING, coming, without_labels
from ls_pipeline.assets.copying import is_due
from ls_pipeline.assets.exporting import OVERLAP, differs, earlier
from ls_pipeline.assets.projects import Projects
from ls_pipeline.domain.errors import LabelStudioError, ProjectNotFoundError
from ls_pipeline.resources.labeling_app import LabelingApp
from ls_pipeline.resources.ledger import Ledger
from ls_pipeline.resources.ledger_account import Account
from ls_pipeline.sensors.watching import Tick, must_wait, watched


def completions(seconds: int) -> dg.SensorDefinition:
    """Make the sensor that asks for ``export_completions`` where labels have changed."""

    @dg.sensor(
        name="completions",
        job_name="export_completions",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Polls Label Studio for tasks whose annotations changed since their export, "
        "and asks for a run of each connection that has some.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        ledger: dg.ResourceParam[Ledger],
        label_studio: dg.ResourceParam[LabelingApp],
    ) -> dg.SensorResult:
        return look_for_labels(context, ledger, label_studio)

    return look


def look_for_labels(
    context: dg.SensorEvaluationContext, ledger: Ledger, app: LabelingApp
) -> dg.SensorResult:
    """Compare Label Studio's annotations with the ledger; ask for a run where they differ.

    The cursor holds a Label Studio time before which nothing differs, so that tasks that were
    merely loaded are not listed again and again; it moves only over ticks that found nothing.
    And it holds the connections to which no labels came: where these change, the check is told.
    """
    accounts = watched(ledger, lambda one: one.revision().connection.target is not None)
    tick = Tick()
    seen_to, told = _remembered(context.cursor)
    try:
        now = earlier(app.now(), OVERLAP) if accounts else ""
        for account in accounts:
            _look(context, account, app, seen_to, tick)
    except LabelStudioError as error:
        tick.reasons.append(str(error))
        now = ""
    quiet = now and not tick.wanted and not tick.unsure
    names = [account.name for account in accounts]
    late = without_labels(ledger)
    if list(late) != told:
        found = dg.AssetCheckEvaluation(COMING.asset_key, COMING.name, **coming(late))
        tick.checked.append(found)
    cursor = json.dumps([now if quiet else seen_to, list(late)])
    return tick.result(context, names, cursor)


def _remembered(cursor: str | None) -> tuple[str, list[str] | None]:
    """Take a cursor apart; one of an earlier version is none."""
    try:
        seen_to, told = json.loads(cursor or "")
    except (ValueError, TypeError):
        return "", None
    return seen_to, told


def _look(
    context: dg.SensorEvaluationContext,
    account: Account,
    app: LabelingApp,
    seen_to: str,
    tick: Tick,
) -> None:
    connection, projects = account.revision().connection, Projects(account, app)
    if connection.target is None:
        return
    if reason := must_wait(context.instance, account, "completions"):
        tick.unsure = True
        tick.reasons.append(reason)
        return
    if not projects.ids:
        if connection.source:
            tick.reasons.append(f"{account.name}: no tasks were loaded yet.")
        else:  # nothing else will ever look its project up
            tick.wanted.append(account.name)
        return
    since = account.polled_to() and max(account.polled_to(), seen_to)
    try:
        wanted = is_due(account, connection.target) or differs(
            account, projects, connection.target, since
        )
    except ProjectNotFoundError:
        wanted = True  # its run says so, and waits longer each time; the others are looked at
    if wanted:
        tick.wanted.append(account.name)
    else:
        tick.reasons.append(f"{account.name}: no new labels.")

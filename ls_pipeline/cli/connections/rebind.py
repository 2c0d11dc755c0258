"""``ls-pipeline connections rebind``: shows what differs, and does what a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ls_pipeline.cli.connections.holding import hold, run_context
from ls_pipeline.cli.connections.rebind_words import consequence, describe, next_step
from ls_pipeline.cli.console import print_json, print_lines
from ls_pipeline.cli.context import pass_cli
from ls_pipeline.cli.options import CONNECTION, FAILED, json_instead_of, verbatim
from ls_pipeline.engine.rebind import Choice, Findings, check_offered, find_differences
from ls_pipeline.engine.rebind import rebind as rebind_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ls_pipeline.cli.context import CliContext

EPILOG = verbatim("""
Examples:
  ls-pipeline connections rebind reviews                  what differs, and what you can do
  ls-pipeline connections rebind reviews --take-over      show it, ask, and do it
  ls-pipeline connections rebind reviews --reload --yes   do it without asking

Exit code: 0 if nothing differs or it was done; 1 if something differs and was left as it is
""")


@click.command(epilog=EPILOG, short_help="Bind a connection to another project or target.")
@CONNECTION
@click.option("--take-over", is_flag=True, help="Go on here, and stop another installation.")
@click.option("--reload", is_flag=True, help="Go on here, and load missing tasks again.")
@click.option("--forget", is_flag=True, help="Go on here; missing tasks count as deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_instead_of("sentences")
@pass_cli
@click.pass_context
def rebind(
    ctx: click.Context,
    cli: CliContext,
    /,
    name: str,
    yes: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001
    **choices: bool,
) -> None:
    """Bind a connection to the projects and the target that there are now.

    A run stops and changes nothing if Label Studio or the target is not what the ledger knows: if
    it was reset, replaced or restored from a backup, or if another installation uses it. This
    command shows what differs, and what each choice would do. Without a choice it changes nothing.
    """
    choice = _chosen(choices)
    if choice and not yes and (as_json or not cli.is_interactive):
        raise click.UsageError("Add --yes, because there is no terminal to ask on.")
    with hold(name, cli) as held:
        run = run_context(held, cli)
        findings, title = find_differences(run), run.connection.project
    is_needed = bool(findings.differences) or choice in findings.choices
    if choice and is_needed:
        check_offered(findings, choice, name)
    if not as_json:
        print_lines(*describe(findings, name, title))
    done = bool(choice and is_needed and (yes or click.confirm("Go on?")))
    if choice and done:
        with hold(name, cli) as held:
            rebind_connection(run_context(held, cli), choice, findings)
    if as_json:
        print_json(_document(findings, name, choice if done else None))
    elif choice and done:
        print_lines(next_step(findings, choice, name))
    if findings.differences and not done:
        ctx.exit(FAILED)


def _chosen(flags: Mapping[str, bool]) -> Choice | None:
    chosen = [choice for choice in Choice if flags[choice.value.replace("-", "_")]]
    if len(chosen) > 1:
        raise click.UsageError("Choose one of --take-over, --reload and --forget.")
    return chosen[0] if chosen else None


def _document(findings: Findings, name: str, done: Choice | None) -> dict[str, Any]:
    return {
        "connection": name,
        "differences": findings.differences,
        "notes": findings.notes,
        "projects": [
            {"id": project.id, "title": project.title, "url": project.url}
            for project in findings.projects.values()
        ],
        "known": findings.known,
        "missing": findings.missing,
        "missing_files": findings.missing_files,
        "outdated_files": findings.outdated_files,
        "choices": {choice.value: consequence(findings, choice) for choice in findings.choices},
        "done": done and done.value,
    }

"""Arguments and options that several commands have, and exit codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import sqlalchemy as sa

from ls_pipeline.resources.environment import database_url, home
from ls_pipeline.resources.ledger.tables import connections

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED, USAGE_ERROR = 1, 2
"""Exit codes. With the second, nothing was done."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)


def _complete_name(_ctx: click.Context, _param: click.Parameter, begin: str) -> list[str]:
    """Return connections whose names start with ``begin``; never create or migrate a ledger."""
    if not os.environ.get("LS_PIPELINE_DATABASE_URL") and not (home() / "ledger.db").exists():
        return []
    query = sa.select(connections.c.name).where(~connections.c.removed)
    try:
        with sa.create_engine(database_url(), poolclass=sa.NullPool).connect() as db:
            return [name for name in db.scalars(query) if name.startswith(begin)]
    except (sa.exc.SQLAlchemyError, ImportError):
        return []


CONNECTION = click.argument("name", metavar="CONNECTION", shell_complete=_complete_name)
CONNECTIONS = click.argument(
    "names", metavar="[CONNECTION]...", nargs=-1, shell_complete=_complete_name
)


def json_instead_of(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flag ``--json``, which the command receives as ``as_json``.

    With it, errors are printed as JSON, too.
    """
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help=f"Print one JSON object instead of {what}, also for errors.",
    )


def verbatim(text: str) -> str:
    """Return the end of a help page, whose lines click does not wrap."""
    return "\b\n" + text.strip().replace("\n\n", "\n\n\b\n")

"""What commands have in common: connections by name, which a shell completes, and ``--json``."""

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


FAILED, MISUSED = 1, 2
"""Exit codes: something failed; the command line is wrong, and nothing was done."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)


def _names(_ctx: click.Context, _param: click.Parameter, begin: str) -> list[str]:
    """List the connections whose names begin so; who presses a key changes no ledger."""
    if not os.environ.get("LS_PIPELINE_DATABASE_URL") and not (home() / "ledger.db").exists():
        return []
    named = sa.select(connections.c.name).where(~connections.c.removed)
    try:
        with sa.create_engine(database_url(), poolclass=sa.NullPool).connect() as db:
            return [name for name in db.scalars(named) if name.startswith(begin)]
    except (sa.exc.SQLAlchemyError, ImportError):
        return []


CONNECTION = click.argument("name", metavar="CONNECTION", shell_complete=_names)
CONNECTIONS = click.argument("names", metavar="[CONNECTION]...", nargs=-1, shell_complete=_names)


def json_instead_of(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flag ``--json``, which gives a command ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help=f"One JSON object instead of {what}."
    )

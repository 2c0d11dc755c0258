"""What commands have in common: connections by name, which a shell completes, and ``--json``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ls_pipeline.cli.outside import Outside
from ls_pipeline.domain.errors import PipelineError
from ls_pipeline.resources.home import home

if TYPE_CHECKING:
    from collections.abc import Callable


def _names(_ctx: click.Context, _param: click.Parameter, begin: str) -> list[str]:
    """List the connections whose names begin so; to press a key makes no ledger."""
    if not os.environ.get("LS_PIPELINE_DATABASE_URL") and not (home() / "ledger.db").exists():
        return []
    try:
        return [name for name in Outside().ledger.names() if name.startswith(begin)]
    except PipelineError:
        return []


ONE = click.argument("name", metavar="CONNECTION", shell_complete=_names)
ANY = click.argument("names", metavar="[CONNECTION]...", nargs=-1, shell_complete=_names)


def json_instead_of(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flag ``--json``, which gives a command ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help=f"One JSON object instead of {what}."
    )

"""Where this installation keeps its own state."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Give the folder of our own state: LS_PIPELINE_HOME, else ``.ls_pipeline`` here."""
    return Path(os.environ.get("LS_PIPELINE_HOME") or ".ls_pipeline").absolute()


def database_url() -> str:
    """Give the ledger's database: LS_PIPELINE_DATABASE_URL, else a file in the home."""
    if url := os.environ.get("LS_PIPELINE_DATABASE_URL"):
        return url
    return f"sqlite:///{(home() / 'ledger.db').as_posix()}"

"""Where this installation keeps its own state."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path


def home() -> Path:
    """Give the folder of our own state: LS_PIPELINE_HOME, else ``.ls_pipeline`` here."""
    return Path(os.environ.get("LS_PIPELINE_HOME") or ".ls_pipeline").absolute()


def database_url() -> str:
    """Give the ledger's database: LS_PIPELINE_DATABASE_URL, else a file in the home."""
    if url := os.environ.get("LS_PIPELINE_DATABASE_URL"):
        return url
    return f"sqlite:///{(home() / 'ledger.db').as_posix()}"


def asset_owners() -> list[str]:
    """Give the owners of assets: LS_PIPELINE_OWNERS, as in ``team:vision,me@example.com``."""
    told = os.environ.get("LS_PIPELINE_OWNERS") or "team:labeling"
    return [one.strip() for one in told.split(",")]


@dataclass(frozen=True, slots=True)
class LabelStudioAddress:
    """The Label Studio that runs in the home, for whoever else works on it."""

    url: str
    api_key: str = field(repr=False)
    webhooks: str = ""
    """Where it may call back, if anywhere."""


DEFAULT_URL = "http://localhost:8080"


def label_studio_address(url: str = "", api_key: str = "") -> LabelStudioAddress:
    """Find Label Studio: as given, as the environment says, or the one that runs in the home."""
    url = url or os.environ.get("LABEL_STUDIO_URL", "")
    key = (api_key or os.environ.get("LABEL_STUDIO_API_KEY", "")).strip()
    if not url and (local := read_local_label_studio()):
        return local
    return LabelStudioAddress((url or DEFAULT_URL).rstrip("/"), key)


def label_studio_public_url(label_studio_url: str) -> str:
    """Give the address at which people open it: LABEL_STUDIO_PUBLIC_URL, else the same."""
    return (os.environ.get("LABEL_STUDIO_PUBLIC_URL") or label_studio_url).rstrip("/")


def read_local_label_studio() -> LabelStudioAddress | None:
    """Give the Label Studio that `ls-pipeline start` runs here, None when it runs none."""
    try:
        told = json.loads(_address_file().read_text(encoding="utf-8"))
        return LabelStudioAddress(told["url"], told["api_key"], told.get("webhooks", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_local_label_studio(told: LabelStudioAddress | None) -> None:
    """Let others know where the Label Studio of this home runs; None: nowhere any more."""
    file = _address_file()
    if told is None:
        file.unlink(missing_ok=True)
        return
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(told)), encoding="utf-8")


def _address_file() -> Path:
    return home() / "label-studio.json"


def webhook_url() -> str:
    """Give where Label Studio may call back, without a slash at its end; empty: nowhere.

    LS_PIPELINE_WEBHOOK_URL, else the receiver beside the Label Studio that runs in the home.
    """
    told = os.environ.get("LS_PIPELINE_WEBHOOK_URL")
    if not told and not os.environ.get("LABEL_STUDIO_URL") and (local := read_local_label_studio()):
        told = local.webhooks
    return (told or "").rstrip("/")


def webhook_secret() -> str:
    """Give what Label Studio shows when it calls back: LS_PIPELINE_WEBHOOK_SECRET.

    Unless that is set it is in a file of the home, which is made by whoever asks first.
    """
    if told := os.environ.get("LS_PIPELINE_WEBHOOK_SECRET", "").strip():
        return told
    file = home() / "webhook-secret"
    if not file.exists():
        home().mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32), encoding="utf-8")
        with suppress(FileExistsError):  # of two that ask first, one makes it
            os.link(draft, file)
        draft.unlink()
    return file.read_text(encoding="utf-8")

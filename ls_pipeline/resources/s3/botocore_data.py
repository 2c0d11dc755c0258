"""What botocore knows of AWS, without what is not used: a client takes 8 MB less."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

SERVICES = {"s3", "sqs", "sts", "sso", "oidc", "portal.sso"}
"""What clients and credentials ask; of any other service, botocore takes the usual endpoint."""


def new_session(profile: str | None = None) -> Any:
    """Return a botocore session that loads less."""
    from botocore.session import Session  # half a second

    session = Session(profile=profile)
    load_less(session)
    return session


def load_less(session: Any) -> None:
    """Have a botocore session keep the endpoints of `SERVICES` alone, and no documentation."""
    loader = session.get_component("data_loader")
    loader.file_loader = _FileLoader(loader.file_loader)


class _FileLoader:
    """Loads botocore's files with a loader of botocore."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def exists(self, file_path: str) -> bool:
        return bool(self._loader.exists(file_path))

    def load_file(self, file_path: str) -> Any:
        data = self._loader.load_file(file_path)
        kind = PurePath(file_path).name
        if data and kind == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {name: services[name] for name in SERVICES & {*services}}
        elif data and kind == "service-2":
            _empty_documentation(data)
        return data


def _empty_documentation(model: Any) -> None:
    """Empty the texts in a service's model. A shape may have a member of the same name."""
    if isinstance(model, dict):
        if isinstance(model.get("documentation"), str):
            model["documentation"] = ""
        for part in model.values():
            _empty_documentation(part)
    elif isinstance(model, list):
        for part in model:
            _empty_documentation(part)

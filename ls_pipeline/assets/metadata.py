"""Where a person can look at what metadata names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ls_pipeline.resources.labeling_app import Project
    from ls_pipeline.settings.model import Source, Target


def folder_link(part: Source | Target, key: str) -> dg.UrlMetadataValue | dg.TextMetadataValue:
    """Give a folder's page in its cloud's console; its URI where it is not Amazon's or Google's."""
    if part.cloud == "gcs":
        elsewhere = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
        page = f"https://console.cloud.google.com/storage/browser/{part.path}/{quote(key)}"
    else:
        variables = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        elsewhere = bool(part.params.endpoint_url) or any(map(os.environ.get, variables))
        page = f"https://console.aws.amazon.com/s3/buckets/{part.path}?prefix={quote(key, safe='')}"
    return dg.MetadataValue.text(part.root + key) if elsewhere else dg.MetadataValue.url(page)


def project_links(projects: Sequence[Project]) -> dict[str, dg.MetadataValue[Any]]:
    """Give the page of the project that takes new tasks, the last; of several, those of all."""
    links: dict[str, dg.MetadataValue[Any]] = {"project": dg.MetadataValue.url(projects[-1].url)}
    if len(projects) > 1:
        lines = [f"- [{one.title}]({one.url}): {one.tasks:,} tasks" for one in reversed(projects)]
        links["projects"] = dg.MetadataValue.md("\n".join(lines))
    return links

"""Label Studio's storage connections, which let annotators open the objects of a bucket.

Those of ls_pipeline never sync: Label Studio only signs URLs with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import LabelStudioAccessError, LabelStudioError
from ls_pipeline.resources.label_studio.answers import Storage, those_of
from ls_pipeline.resources.label_studio.http import created_or_found, detail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from ls_pipeline.resources.label_studio.http import LabelStudioAPI
    from ls_pipeline.resources.labeling_app import StorageLocation

URL_LIFETIME_MINUTES = 60
"""How long a signed URL is valid. Label Studio's default of 1 minute is too short to label."""

TITLE_PREFIX = "ls_pipeline "
"""Starts the title of a storage connection that `register_storage` made."""

REFUSED_ENDPOINT = ", at S3_ENDPOINT of this server instead of "
"""Precedes, at the end of the title, an endpoint that Label Studio refused."""


def register_storage(
    api: LabelStudioAPI,
    project_id: int,
    location: StorageLocation,
    google_credentials: Callable[[], str],
    *,
    is_new: bool,
) -> None:
    """Create or correct a storage connection, as ``LabelingApp.register_storage`` says.

    ``google_credentials`` returns a service account's key, or an empty text; it is called when
    a storage connection for Google Cloud Storage is created.
    """
    path = f"api/storages/{'s3' if location.scheme == 's3' else 'gcs'}/"

    def find() -> Storage | None:
        storages = those_of(Storage, api.items("GET", path, params={"project": project_id}))
        return next((storage for storage in storages if storage.bucket == location.bucket), None)

    storage = None if is_new else find()
    if storage is None:
        signing_key = google_credentials() if location.scheme == "gs" else ""
        body = _storage(project_id, location, signing_key)
        created_or_found(lambda: _save(api, "POST", path, body, location), find)
    elif storage.title.startswith(TITLE_PREFIX) and not _is_up_to_date(storage, location):
        # With the bucket: otherwise Label Studio does not test whether it can reach it.
        body = {"bucket": location.bucket, "title": _title(location)}
        _save(api, "PATCH", f"{path}{storage.id}", body, location)


def _save(
    api: LabelStudioAPI, method: str, path: str, body: Mapping[str, Any], location: StorageLocation
) -> Any:
    """Send a storage connection. Raises ``LabelStudioError`` if its bucket can't be opened."""
    answer = _sent(api, method, path, body, location)
    if answer.status_code in {400, 500}:
        raise LabelStudioError(
            f"Label Studio can't open objects of {location.uri} for annotators: {detail(answer)}",
            hint="Set credentials and the endpoint of the bucket for Label Studio's server.",
        )
    return api.content(answer)


def _storage(project_id: int, location: StorageLocation, signing_key: str) -> dict[str, Any]:
    return {
        "project": project_id,
        "bucket": location.bucket,
        "title": _title(location),
        "synchronizable": False,
        "use_blob_urls": True,
        # On GCS only a service account's key can sign. Without one, Label Studio fetches the
        # bytes with its server's credentials and serves them itself.
        "presign": location.scheme == "s3" or bool(signing_key),
        "presign_ttl": URL_LIFETIME_MINUTES,
        **({"google_application_credentials": signing_key} if signing_key else {}),
    }


def _sent(
    api: LabelStudioAPI, method: str, path: str, body: Mapping[str, Any], location: StorageLocation
) -> httpx.Response:
    fields = _location_fields(location)
    try:
        return api.send(method, path, json={**body, **fields})
    except LabelStudioAccessError:
        if not fields.get("s3_endpoint"):
            raise
        # Label Studio refuses an endpoint in a private network. Without one it uses S3_ENDPOINT
        # of its own environment, which may be there (io_storages/s3/utils.py).
        title = _title(location) + REFUSED_ENDPOINT + location.endpoint_url
        return api.send(method, path, json={**body, **fields, "s3_endpoint": "", "title": title})


def _location_fields(location: StorageLocation) -> dict[str, str]:
    if location.scheme != "s3":
        return {}
    return {"s3_endpoint": location.endpoint_url, "region_name": location.region}


def _title(location: StorageLocation) -> str:
    return f"{TITLE_PREFIX}{location.uri} (opens objects, never syncs)"


def _is_up_to_date(storage: Storage, location: StorageLocation) -> bool:
    """Return whether a storage connection has this endpoint and region.

    An endpoint that Label Studio refused, and would refuse each time, counts as its own.
    """
    refused = storage.title.partition(REFUSED_ENDPOINT)[2]
    current = {**storage.model_dump(), **({"s3_endpoint": refused} if refused else {})}
    fields = _location_fields(location)
    return all((current.get(name) or "") == value for name, value in fields.items())

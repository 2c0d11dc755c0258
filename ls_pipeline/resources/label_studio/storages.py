"""Label Studio's storage connections, with which annotators open the objects of a bucket.

Ours never sync: they are there for the URLs alone that Label Studio signs with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import LabelStudioAccessError, LabelStudioError
from ls_pipeline.resources.label_studio.http import detail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from ls_pipeline.resources.label_studio.http import LabelStudioAPI
    from ls_pipeline.resources.labeling_app import StorageLocation

URL_LIFETIME_MINUTES = 60
"""How long a signed URL opens; Label Studio's default of 1 is shorter than a look."""

OURS = "ls_pipeline "
"""How the title of a storage connection begins that `register_storage` made."""

INSTEAD_OF = ", at S3_ENDPOINT of this server instead of "
"""What the title says of an endpoint that Label Studio refused."""


def register_storage(
    api: LabelStudioAPI,
    project_id: int,
    location: StorageLocation,
    google_credentials: Callable[[], str],
) -> None:
    """See to a storage connection for a bucket, as ``LabelingApp.register_storage`` says."""
    scheme, bucket = location.scheme, location.bucket
    path = f"api/storages/{'s3' if scheme == 's3' else 'gcs'}/"
    existing = api.json("GET", path, params={"project": project_id})
    same = [one for one in existing if one["bucket"] == bucket]
    where = {"s3_endpoint": location.endpoint_url, "region_name": location.region}
    if scheme != "s3":
        where = {}
    if not same:
        signing_key = google_credentials() if scheme == "gs" else ""
        body = _storage(project_id, scheme, bucket, signing_key)
        answer = _store(api, "POST", path, body, where)
    elif not same[0]["title"].startswith(OURS) or _is_at(same[0], where):
        return
    else:
        # With its bucket, or Label Studio would not try whether it can be reached there.
        body = {"bucket": bucket, "title": _title(scheme, bucket)}
        answer = _store(api, "PATCH", f"{path}{same[0]['id']}", body, where)
    if answer.status_code in {400, 500}:
        raise LabelStudioError(
            f"Label Studio can't open objects of {scheme}://{bucket} for annotators: "
            f"{detail(answer)} Give its server credentials and the endpoint of the bucket."
        )
    api.content(answer)


def _storage(project_id: int, scheme: str, bucket: str, signing_key: str) -> dict[str, Any]:
    return {
        "project": project_id,
        "bucket": bucket,
        "title": _title(scheme, bucket),
        "synchronizable": False,
        "use_blob_urls": True,
        # On GCS only a service account's key can sign: without one, Label Studio fetches
        # the bytes with the credentials of its server, and hands them on.
        "presign": scheme == "s3" or bool(signing_key),
        "presign_ttl": URL_LIFETIME_MINUTES,
        **({"google_application_credentials": signing_key} if signing_key else {}),
    }


def _store(
    api: LabelStudioAPI, method: str, path: str, body: Mapping[str, Any], where: Mapping[str, str]
) -> httpx.Response:
    try:
        return api.send(method, path, json={**body, **where})
    except LabelStudioAccessError:
        if not where.get("s3_endpoint"):
            raise
        # An address in an inner network is forbidden: only the S3_ENDPOINT of its server
        # may lead there, and does so where none is given.
        title = _title("s3", body["bucket"]) + INSTEAD_OF + where["s3_endpoint"]
        return api.send(method, path, json={**body, **where, "s3_endpoint": "", "title": title})


def _title(scheme: str, bucket: str) -> str:
    return f"{OURS}{scheme}://{bucket} (opens objects, never syncs)"


def _is_at(storage: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Tell whether a storage connection leads to this endpoint and region already.

    Of one that Label Studio refused, and would refuse each time, the title tells.
    """
    refused = storage["title"].partition(INSTEAD_OF)[2]
    proposed = {**storage, **({"s3_endpoint": refused} if refused else {})}
    return all((proposed.get(name) or "") == value for name, value in where.items())

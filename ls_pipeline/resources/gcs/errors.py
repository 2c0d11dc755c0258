"""What the exceptions of Google's clients mean, for Cloud Storage and Pub/Sub."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.failures import (
    Failure,
    Meaning,
    Service,
    access_refused,
    busy,
    damaged,
    no_answer,
    one_line,
    refused,
    wrong_setting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[tuple[type[Exception], ...], Callable[[Any, Service], Failure]]

GCS = Service("GCS", "Check the credentials and their roles.", "STORAGE_EMULATOR_HOST, if set")
PUBSUB = Service(
    "Pub/Sub", "Grant the account roles/pubsub.subscriber on it.", "PUBSUB_EMULATOR_HOST, if set"
)

CREDENTIALS_HINT = (
    "Set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or attach "
    "a service account to the machine."
)


def failure(error: Exception, service: Service) -> Failure:
    """Return what an exception of Google's clients means; it is one of `handled`."""
    make = next(make for kinds, make in _exceptions() if isinstance(error, kinds))
    return make(error, service)


@cache
def handled() -> tuple[type[Exception], ...]:
    """Return the classes of exceptions that can leave a call of Google's clients."""
    return tuple(kind for kinds, _ in _exceptions() for kind in kinds)


@cache
def _exceptions() -> tuple[Row, ...]:
    """Return what the exceptions mean; the first row that matches counts."""
    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, RetryError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    return (
        ((RetryError,), lambda error, service: _unavailable(error.cause or error, service)),
        ((GoogleAPICallError,), _refusal),
        ((GoogleAuthError,), _authentication_failure),
        ((DataCorruption,), lambda _error, service: damaged(service, "its checksum is wrong")),
        ((InvalidResponse,), lambda error, service: damaged(service, _words(error))),
        ((RequestException, HTTPError, ConnectionError, TimeoutError), _unavailable),
        ((OSError,), _local_failure),
        (
            (GoogleAPIError, ValueError),  # such as a name that is not legal
            lambda error, service: wrong_setting(service, _words(error)),
        ),
    )


def _refusal(error: Any, service: Service) -> Failure:
    """Return what an error that a service answered means."""
    from google.api_core import exceptions as api

    reason = _words(error)
    if isinstance(error, api.NotFound):
        return Failure(Meaning.NOT_FOUND, reason)
    if isinstance(error, api.PreconditionFailed):
        return Failure(Meaning.CHANGED, reason)
    if isinstance(error, (api.Forbidden, api.Unauthorized)):
        return access_refused(service, reason)
    if isinstance(error, (api.ServerError, api.TooManyRequests)):
        return _unavailable(error, service)
    return refused(service, reason)


def _authentication_failure(error: Any, service: Service) -> Failure:
    from google.auth.exceptions import TransportError

    if isinstance(error, TransportError) or error.retryable:  # of the service that issues tokens
        return _unavailable(error, service)
    what = f"no Google credentials are usable ({_words(error)})"
    return Failure(Meaning.ACCESS, what, CREDENTIALS_HINT)


def _local_failure(error: OSError, _service: Service) -> Failure:
    """Return the failure to read credentials, or to know the project that they are for."""
    hint = CREDENTIALS_HINT if error.filename else "Set GOOGLE_CLOUD_PROJECT."
    return Failure(Meaning.ACCESS, _words(error), hint)


def _unavailable(error: BaseException, service: Service) -> Failure:
    is_answer = getattr(error, "response", None) is not None
    return (busy if is_answer else no_answer)(service, _words(error))


def _words(error: BaseException) -> str:
    """Return the service's own words, or the reason for their absence.

    Never the request's URL: the URL of an upload lets anyone continue it.
    """
    response: Any = getattr(error, "response", None)
    if hasattr(response, "json"):
        try:
            return one_line(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError, RuntimeError):
            return f"status {response.status_code}"
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, (error.strerror, error.filename)))
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    return one_line(reason)

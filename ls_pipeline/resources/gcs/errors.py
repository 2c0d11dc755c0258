"""What the exceptions of Google's clients mean, for Cloud Storage and Pub/Sub."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from ls_pipeline.resources import failures
from ls_pipeline.resources.failures import Failure, Meaning, Service, look_up, one_line

GCS = Service(
    "GCS",
    "Check the credentials and their roles.",
    "STORAGE_EMULATOR_HOST (if set)",
    certificates="REQUESTS_CA_BUNDLE",
)
PUBSUB = Service(
    "Pub/Sub",
    "Grant the account roles/pubsub.subscriber on it.",
    "PUBSUB_EMULATOR_HOST (if set)",
    certificates="GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)

_CREDENTIALS = (
    "Set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or attach "
    "a service account to the machine."
)

_NO_CREDENTIALS = Failure(
    Meaning.ACCESS, "no Google credentials are usable ({reason})", _CREDENTIALS
)
_NOT_JSON = _NO_CREDENTIALS._replace(
    hint=f"{_CREDENTIALS} Its file is JSON in UTF-8 without a byte order mark."
)
_REASONS = {
    "valid json": _NOT_JSON,
    "reasonable timeframe": _NO_CREDENTIALS._replace(hint="Set this machine's clock."),
}
"""What Google's libraries say of credentials → what it means, if not `_NO_CREDENTIALS`."""
_UNREADABLE = Failure(Meaning.ACCESS, "{reason}", _CREDENTIALS)
_NO_PROJECT = Failure(Meaning.ACCESS, "{reason}", "Set GOOGLE_CLOUD_PROJECT.")

_NO_PAYER = Failure(
    Meaning.SETTING,
    failures.REFUSED.what,
    "Set requester_pays, and GOOGLE_CLOUD_PROJECT to the project that pays.",
)
_REFUSALS = {
    "requester pays bucket": _NO_PAYER,
    "user project": _NO_PAYER,
    "kms cryptokey": failures.REFUSED._replace(
        hint="Repair the key, then run ls-pipeline quarantine retry."
    ),
}
"""What GCS says, without capitals → what it means."""

_EXCEPTIONS = {
    failures.NOT_FOUND: "NotFound",
    failures.CHANGED: "PreconditionFailed",
    failures.NO_ACCESS: "Forbidden Unauthorized",
    failures.BAD_PROXY: "ProxyError",
    failures.NO_ANSWER: (
        "ConnectionError HTTPError RequestException RetryError ServerError TimeoutError "
        "TooManyRequests"
    ),
    failures.REFUSED: "GoogleAPICallError",
    failures.DAMAGED._replace(
        what="the answer is damaged (its checksum is wrong)"
    ): "DataCorruption",
    failures.DAMAGED: "InvalidResponse",
    _UNREADABLE: "OSError",
}
"""Classes of exceptions; for others a setting is wrong, such as a name that is not legal."""


def failure(error: Exception, service: Service) -> Failure:
    """Return what an exception of Google's clients means; it is one of `handled`."""
    kind = _kind(error)
    cause = getattr(error, "cause", None) or error  # of a `RetryError`
    if kind is failures.NO_ANSWER and getattr(cause, "response", None) is not None:
        kind = failures.BUSY
    kind = failures.of_connection(kind, cause)
    words = _words(cause)
    if kind is failures.REFUSED:
        refusals = (each for said, each in _REFUSALS.items() if said in words.lower())
        kind = next(refusals, kind)
    return failures.by_words(kind, words).of(service, words)


def credentials_failure(error: Exception) -> Failure:
    """Return what any exception means that a client raises while it is made.

    Google's libraries let through what is wrong with the file, or with a process that it names.
    """
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, (GoogleAuthError, OSError)):
        return failure(error, GCS)
    return _NO_CREDENTIALS.of(
        GCS, _words(error) if isinstance(error, ValueError) else type(error).__name__
    )


@cache
def handled() -> tuple[type[Exception], ...]:
    """Return the classes of exceptions that can leave a call of Google's clients."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from urllib3.exceptions import HTTPError

    google = (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse)
    return (*google, HTTPError, OSError, ValueError)


def _kind(error: Any) -> Failure:
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, GoogleAuthError):
        is_away = isinstance(error, TransportError) or error.retryable  # who issues tokens
        if is_away:
            return failures.NO_ANSWER
        reasons = (each for words, each in _REASONS.items() if words in str(error))
        return next(reasons, _NO_CREDENTIALS)
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = look_up(names, _EXCEPTIONS, failures.WRONG_SETTING)
    return _NO_PROJECT if kind is _UNREADABLE and not error.filename else kind


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
        return _without_key(": ".join(filter(None, (error.strerror, error.filename))))
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else error)
    return _without_key(str(reason))


def _without_key(reason: str) -> str:
    """Return words on one line; a key in place of its file's path is not repeated."""
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    is_key = bool(path) and not Path(path).is_absolute()
    return one_line(reason.replace(path, "in GOOGLE_APPLICATION_CREDENTIALS") if is_key else reason)

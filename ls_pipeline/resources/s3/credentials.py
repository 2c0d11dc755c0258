"""AWS credentials: a check of the keys in the environment, and sessions in a role."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ls_pipeline.resources.failures import (
    DAMAGED,
    Failure,
    Meaning,
    unreadable,
    wrong_address,
)
from ls_pipeline.resources.s3.botocore_data import load_less
from ls_pipeline.resources.s3.errors import (
    STS,
    CredentialsError,
    credentials_failure,
    failure,
    handled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSION = "ls_pipeline"
"""The session's name in AWS's own log of what was done in the role."""

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume, and the region whose STS is asked for it; empty means the default."""

    arn: str
    external_id: str = ""
    region: str = ""


ENDPOINTS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_STS",
)


CERTIFICATES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


def check_variables() -> None:
    """Raise ``CredentialsError`` if a variable can't be a key or an endpoint.

    botocore would quote all of it in its error.
    """
    certificates = map(unreadable, CERTIFICATES)
    if found := wrong_address(ENDPOINTS) or next(filter(None, certificates), None):
        raise CredentialsError(found)
    for name in KEYS:
        key = os.environ.get(name, "")
        if not (key.isascii() and key.isprintable()):
            what = f"{name} holds a line break or another character that no key has"
            raise CredentialsError(Failure(Meaning.ACCESS, what, "Set it again."))


@contextmanager
def reading_credentials() -> Iterator[None]:
    """Raise ``CredentialsError`` for everything that a chain of credentials raises."""
    try:
        yield
    except CredentialsError:
        raise
    except Exception as error:  # noqa: BLE001 - botocore lets through any; it may quote a key
        raise CredentialsError(credentials_failure(error)) from None


def guard_credentials(client: Any) -> Any:
    """Return a client whose credentials raise ``CredentialsError`` if they can't be renewed."""
    signer = client._request_signer  # noqa: SLF001 - the only way to a client's credentials
    if signer._credentials is not None:  # noqa: SLF001
        signer._credentials = _GuardedCredentials(signer._credentials)  # noqa: SLF001
    return client


class _GuardedCredentials:
    """Credentials of botocore."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def get_frozen_credentials(self) -> Any:
        with reading_credentials():
            return self._own.get_frozen_credentials()


def session_in_role(own: Any, role: Role, config: Any) -> Any:
    """Return a botocore session in a role; ``own`` is the session that asks STS for it.

    STS is asked at the first request, and again well before the credentials expire. If it refuses,
    that request raises ``CredentialsError``. STS is found as every AWS tool finds it
    (AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, else Amazon's).
    """
    from botocore.credentials import DeferredRefreshableCredentials  # half a second
    from botocore.session import Session

    def assume() -> dict[str, str]:
        external_id = {"ExternalId": role.external_id} if role.external_id else {}
        with _translated(role):
            with reading_credentials():
                own.get_credentials()
            sts = own.create_client("sts", region_name=role.region or None, config=config)
            guard_credentials(sts)
            answer = sts.assume_role(RoleArn=role.arn, RoleSessionName=SESSION, **external_id)
        keys = answer["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }

    session = Session(profile=own.profile)
    load_less(session)
    keys = DeferredRefreshableCredentials(assume, "assume-role")
    resolver = SimpleNamespace(load_credentials=lambda: keys)
    session.register_component("credential_provider", resolver)
    return session


@contextmanager
def _translated(role: Role) -> Iterator[None]:
    """Turn what botocore raises about STS into a ``CredentialsError``."""
    try:
        yield
    except handled() as error:
        raise CredentialsError(_about_role(role, failure(error, STS))) from error
    except KeyError as error:  # botocore's for an answer in another form
        raise CredentialsError(_about_role(role, DAMAGED.of(STS, f"no {error}"))) from error


def _about_role(role: Role, reason: Failure) -> Failure:
    """Return a failure to assume a role; whatever else STS refuses, access is refused."""
    meaning, what, hint = reason
    if meaning not in {Meaning.UNAVAILABLE, Meaning.SETTING}:
        meaning, hint = Meaning.ACCESS, hint or STS.access_hint
    return Failure(meaning, f"role {role.arn} can't be assumed: {what}", hint)

"""AWS credentials: a check of the variables, and clients that get theirs in bounded time."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from ls_pipeline.resources.failures import (
    DAMAGED,
    Failure,
    Meaning,
    unreadable,
    wrong_address,
)
from ls_pipeline.resources.s3.botocore_data import new_session
from ls_pipeline.resources.s3.errors import (
    STS,
    CredentialsError,
    credentials_failure,
    failure,
    handled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ls_pipeline.resources.patience import Patience

T = TypeVar("T")

SESSION = "ls_pipeline"
"""The session's name in AWS's own log of what was done in the role."""

MORE_SECONDS = 1.0
"""How much longer a process may run than it is waited for."""

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


NUMBERS = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")


def check_variables() -> None:
    """Raise ``CredentialsError`` if a variable can't be a key or an endpoint.

    botocore would quote all of it in its error.
    """
    certificates = map(unreadable, CERTIFICATES)
    if found := wrong_address(ENDPOINTS) or next(filter(None, certificates), None):
        raise CredentialsError(found)
    for name in NUMBERS:
        if not os.environ.get(name, "1").isdecimal():
            what = f"{name} is not a whole number"
            raise CredentialsError(Failure(Meaning.SETTING, what, "Set it again, or unset it."))
    for name in KEYS:
        key = os.environ.get(name, "")
        if not (key.isascii() and key.isprintable()):
            what = f"{name} holds a line break or another character that no key has"
            raise CredentialsError(Failure(Meaning.ACCESS, what, "Set it again."))


def create_client(
    session: Any, service: str, patience: Patience, role: Role | None = None, **options: Any
) -> Any:
    """Return a client of botocore, in a role if one is given; STS is asked at its first request.

    Its credentials take no longer than ``patience`` allows, here and when they are renewed. If they
    can't be had, this and every request raise ``CredentialsError``.
    """
    if role:
        session = session_in_role(session, role, options["config"])
    else:
        _bound_process(session, patience.seconds)
    _read_credentials(session.get_credentials, patience, role)
    client = session.create_client(service, **options)
    signer = client._request_signer  # noqa: SLF001 - the only way to a client's credentials
    if own := signer._credentials:  # noqa: SLF001
        signer._credentials = _BoundedCredentials(own, patience, role)  # noqa: SLF001
    return client


def _read_credentials(read: Callable[[], T], patience: Patience, role: Role | None) -> T:
    """Return what ``read`` returns, in bounded time; raise ``CredentialsError`` if it fails."""
    with _reading():
        try:
            return patience.wait_for(read)
        except TimeoutError as error:
            late = _LATE.of(STS, str(error))
            raise CredentialsError(_about_role(role, late) if role else late) from None


@contextmanager
def _reading() -> Iterator[None]:
    """Raise ``CredentialsError`` for everything that a chain of credentials raises."""
    try:
        yield
    except CredentialsError:
        raise
    except Exception as error:  # noqa: BLE001 - botocore lets through any; it may quote a key
        raise CredentialsError(credentials_failure(error)) from None


_LATE = Failure(
    Meaning.UNAVAILABLE,
    "the source of the AWS credentials does not answer ({reason})",
    "Check the network, {service.address}, and credential_process in AWS_CONFIG_FILE, if any.",
)


def _bound_process(session: Any, seconds: float) -> None:
    """Let a ``credential_process`` of a session be killed if it does not end."""
    providers = session.get_component("credential_provider").providers
    for provider in providers:
        if provider.METHOD == "custom-process":
            provider._popen = partial(_Process, seconds + MORE_SECONDS)  # noqa: SLF001


class _Process(subprocess.Popen[bytes]):
    """A process that is killed if its output takes longer."""

    def __init__(self, seconds: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seconds = seconds

    def communicate(self, *_: Any, **__: Any) -> tuple[bytes, bytes]:
        try:
            return super().communicate(timeout=self._seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            super().communicate()
            raise


class _BoundedCredentials:
    """Credentials of botocore that are renewed in bounded time."""

    def __init__(self, own: Any, patience: Patience, role: Role | None) -> None:
        self._own, self._patience, self._role = own, patience, role

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def get_frozen_credentials(self) -> Any:
        is_due = getattr(self._own, "refresh_needed", bool)()
        read = self._own.get_frozen_credentials
        return _read_credentials(read, self._patience, self._role) if is_due else read()


def session_in_role(own: Any, role: Role, config: Any) -> Any:
    """Return a botocore session in a role; ``own`` is the session that asks STS for it.

    STS is asked at the first request, and again well before the credentials expire. If it refuses,
    that request raises ``CredentialsError``. STS is found as every AWS tool finds it
    (AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, else Amazon's).
    """
    from botocore.credentials import DeferredRefreshableCredentials  # half a second

    def assume() -> dict[str, str]:
        external_id = {"ExternalId": role.external_id} if role.external_id else {}
        with _translated(role):
            with _reading():
                own.get_credentials()
            sts = own.create_client("sts", region_name=role.region or None, config=config)
            answer = sts.assume_role(RoleArn=role.arn, RoleSessionName=SESSION, **external_id)
        keys = answer["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }

    session = new_session(own.profile)
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

"""AWS credentials: keys that are none, and a session in a role, which renews its own."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import BucketAccessError, BucketError, BucketUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SESSION = "ls_pipeline"
"""The name under which AWS's own log shows what was done in the role."""


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class CredentialsError(Exception):
    """There are none, or a role is refused; ``kind`` is what it means for the bucket at hand.

    The message is the part of a sentence that follows the bucket's URI.
    """

    def __init__(self, kind: type[BucketError], what: str) -> None:
        self.kind = kind
        super().__init__(what)


def check_keys() -> None:
    """Raise ``CredentialsError`` where a variable holds what botocore's refusal would quote."""
    for name in KEYS:
        key = os.environ.get(name, "")
        if not (key.isascii() and key.isprintable()):
            raise CredentialsError(
                BucketAccessError,
                f"{name} holds a line break or another character that no key has; set it anew.",
            )


def session_in_role(own: Any, role_arn: str, external_id: str, region: str, config: Any) -> Any:
    """Give a botocore session in a role; ``own`` is the session that asks STS for it.

    STS is asked at the first request, and again well before the credentials expire; a failure
    to do so raises ``CredentialsError`` from that request. STS is found as every AWS tool finds it
    (AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, else Amazon's).
    """
    from botocore import credentials  # half a second
    from botocore.session import Session

    def ask() -> dict[str, str]:
        asked = {"ExternalId": external_id} if external_id else {}
        with _translated(role_arn):
            sts = own.create_client("sts", region_name=region or None, config=config)
            answer = sts.assume_role(RoleArn=role_arn, RoleSessionName=SESSION, **asked)
        given = answer["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    session = Session(profile=own.profile)
    chain = credentials.CredentialResolver([_provider(ask)])
    session.register_component("credential_provider", chain)
    return session


def _provider(ask: Callable[[], dict[str, str]]) -> Any:
    from botocore import credentials

    class Role(credentials.CredentialProvider):  # type: ignore[misc]
        METHOD = "assume-role"

        def load(self) -> Any:
            return credentials.DeferredRefreshableCredentials(ask, self.METHOD)

    return Role()


@contextmanager
def _translated(role: str) -> Iterator[None]:
    """Turn what botocore raises about STS into a ``CredentialsError``."""
    import botocore.exceptions as aws
    from botocore.parsers import ResponseParserError

    try:
        yield
    except aws.ClientError as error:
        raise _refusal(role, error) from error
    except (aws.HTTPClientError, aws.ConnectionError, ResponseParserError, KeyError) as error:
        raise CredentialsError(
            BucketUnavailableError,
            f"STS gives no answer about role {role} ({error}); check the network and "
            "AWS_ENDPOINT_URL_STS.",
        ) from error
    except aws.NoRegionError as error:
        raise CredentialsError(
            BucketError,
            f"no region is known to ask STS for role {role} in; set region_name or "
            "AWS_DEFAULT_REGION.",
        ) from error
    except aws.ParamValidationError as error:
        raise CredentialsError(
            BucketError,
            f"STS would not take role {role} ({_line(error)}); correct role_arn and external_id.",
        ) from error
    except aws.BotoCoreError as error:
        raise CredentialsError(
            BucketAccessError,
            f"there are no AWS credentials to take on role {role} with ({_line(error)}); set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role.",
        ) from error
    except ValueError as error:  # botocore's word for a malformed endpoint
        raise CredentialsError(
            BucketError, f"STS can't be asked ({error}); correct AWS_ENDPOINT_URL_STS."
        ) from error


_WRONG_CREDENTIALS = {
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "IncompleteSignature",
}
_LATER = {"Throttling", "ThrottlingException", "RequestLimitExceeded"}
_SERVER_ERROR = 500


def _refusal(role: str, error: Any) -> CredentialsError:
    told = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(told.get("Code", ""))
    if code in _LATER or status >= _SERVER_ERROR:
        what = f"STS can't answer about role {role} now ({code or status}); try again."
        return CredentialsError(BucketUnavailableError, what)
    said = ": ".join(filter(None, (code, told.get("Message")))).rstrip(".") or f"status {status}"
    if code in _WRONG_CREDENTIALS:
        advice = "correct the AWS credentials that ask for it, or this machine's clock."
    elif code == "RegionDisabledException":
        advice = "have STS enabled in this region, or set region_name to another."
    else:
        advice = (
            "allow these credentials sts:AssumeRole on it, have its trust policy name them, and "
            "check external_id."
        )
    return CredentialsError(BucketAccessError, f"AWS refuses role {role} ({said}); {advice}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")

"""Label Studio's HTTP interface: a request, and its answer or what is wrong with it, in words.

The SDK brings authentication (legacy tokens, and personal access tokens with their refresh)
and transport. Task traffic takes the JSON as it is: the SDK's models would lose fields that
they do not know, and cost more than the request.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ls_pipeline.domain.errors import (
    LabelStudioAccessError,
    LabelStudioError,
    LabelStudioUnavailableError,
    ProjectNotFoundError,
)

if TYPE_CHECKING:
    import httpx

TIMEOUT = 60.0
"""Seconds."""


class LabelStudioAPI:
    """A client of one Label Studio, with one API key."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url, self.api_key = base_url, api_key

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request, and give the document of its answer, as `send` and `content` do."""
        return self.content(self.send(method, path, **options))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; whatever is no answer about the request itself is raised.

        Raises ``LabelStudioAccessError`` and ``LabelStudioUnavailableError``.
        """
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        options.setdefault("request_options", {"max_retries": 2 if method == "GET" else 0})
        try:
            answer: httpx.Response = self.http.request(path, method=method, **options)
        except httpx.HTTPError as error:
            raise self.unavailable(error) from error
        except httpx.InvalidURL as error:
            raise LabelStudioError(
                f"LABEL_STUDIO_URL is {self.base_url!r}, which is no address ({error})."
            ) from error
        except ApiError as error:  # the refresh of a personal access token
            if error.status_code and error.status_code >= 500:  # noqa: PLR2004
                raise LabelStudioUnavailableError(
                    f"Label Studio at {self.base_url} answered {error.status_code} to a token "
                    "refresh; try again."
                ) from error
            raise self._access_error() from error
        if answer.status_code in {401, 403}:
            raise self._access_error()
        if answer.status_code in {408, 429} or (
            answer.status_code >= 500 and not _is_own_error(answer)  # noqa: PLR2004
        ):
            raise LabelStudioUnavailableError(
                f"Label Studio at {self.base_url} answered {answer.status_code} to {method} "
                f"/{path}: {detail(answer)} Its log says more."
            )
        return answer

    def content(self, answer: httpx.Response) -> Any:
        """Give an answer's document.

        Raises ``ProjectNotFoundError`` and, for what else was refused, ``LabelStudioError``.
        """
        if answer.status_code == 404:  # noqa: PLR2004
            raise ProjectNotFoundError(
                f"Label Studio at {self.base_url} has no {answer.request.url.path}: the project "
                "or task was deleted, or the API key's user can't see it."
            )
        if answer.is_error:
            kind = LabelStudioUnavailableError if answer.is_server_error else LabelStudioError
            raise kind(
                f"Label Studio at {self.base_url} refused {answer.request.method} "
                f"{answer.request.url.path} ({answer.status_code}): {detail(answer)}"
            )
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise self.not_label_studio() from None

    @cached_property
    def http(self) -> Any:
        """Give the SDK's own client. Raises ``LabelStudioAccessError`` without a valid key."""
        import httpx  # heavy, and not needed to load the definitions
        from label_studio_sdk.client import LabelStudio as Client
        from label_studio_sdk.core.api_error import ApiError

        if not self.api_key:
            raise LabelStudioAccessError(
                "There is no API key for Label Studio; set LABEL_STUDIO_API_KEY to a token from "
                f"{self.base_url}/user/account."
            )
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise LabelStudioAccessError(
                "LABEL_STUDIO_API_KEY holds a line break, a space, a quotation mark or another "
                f"character that no token has; copy it anew from {self.base_url}/user/account."
            )
        # The bundled server sends head and body apart, so that a kept-alive connection waits
        # about 40 ms for a delayed acknowledgement; a new one does not.
        transport = httpx.Client(
            timeout=httpx.Timeout(TIMEOUT, connect=10.0),
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Connection": "close"},
            follow_redirects=True,
        )
        try:
            client = Client(  # type: ignore[no-untyped-call]
                base_url=self.base_url, api_key=self.api_key, httpx_client=transport
            )
        except ApiError as error:  # an expired personal access token
            raise self._access_error() from error
        return client._client_wrapper.httpx_client  # noqa: SLF001 - see the module's docstring

    def unavailable(self, error: Exception) -> LabelStudioUnavailableError:
        why = str(error) or type(error).__name__
        return LabelStudioUnavailableError(
            f"Label Studio at {self.base_url} does not answer ({why}); check that it "
            "runs and that LABEL_STUDIO_URL is its address."
        )

    def not_label_studio(self) -> LabelStudioError:
        return LabelStudioError(
            f"What answers at {self.base_url} is not Label Studio's API; correct LABEL_STUDIO_URL."
        )

    def _access_error(self) -> LabelStudioAccessError:
        return LabelStudioAccessError(
            f"Label Studio at {self.base_url} refuses LABEL_STUDIO_API_KEY; take a new token from "
            f"{self.base_url}/user/account (legacy tokens must be enabled for the organization)."
        )


def detail(answer: httpx.Response) -> str:
    """Say in a sentence what an answer complains of."""
    try:
        said = answer.json()
    except ValueError:
        return answer.reason_phrase + "."
    if isinstance(said, dict):
        said = said.get("validation_errors") or said.get("detail") or said
    if isinstance(said, dict):
        said = said.get("non_field_errors") or said
    if isinstance(said, list):
        said = "; ".join(str(one) for one in said if one)
    text = str(said)
    return (text if len(text) <= 500 else text[:500] + "…").rstrip(".") + "."  # noqa: PLR2004


def _is_own_error(answer: httpx.Response) -> bool:
    """Tell whether Label Studio's own code failed, and so rolled back, or something around it."""
    try:
        said = answer.json()
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("status_code") == answer.status_code

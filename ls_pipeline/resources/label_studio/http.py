"""Label Studio's HTTP API: requests, and answers or errors of ours.

Tasks are read and written as plain JSON: the models of label-studio-sdk lose fields that they
don't know, and take longer than the request.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from ls_pipeline.domain.errors import (
    InvalidVariableError,
    LabelStudioAccessError,
    LabelStudioError,
    LabelStudioUnavailableError,
    ProjectNotFoundError,
)
from ls_pipeline.resources.label_studio.network import (
    CHECK_SERVER,
    IDENTITY_PROXY,
    redirected,
    through_proxy,
    unanswered,
    unusable_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx

    from ls_pipeline.resources.label_studio.session import Session


class Items(RootModel[list[Any]]):
    """A list that people can add to."""


T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

SEE_LOG = "See Label Studio's log."

LONGEST_DETAIL = 500
"""Characters of an answer that an error repeats."""


class LabelStudioAPI:
    """A client of one Label Studio server, with one API key."""

    def __init__(
        self, base_url: str, api_key: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.base_url, self.api_key, self._headers = base_url, api_key, headers or {}

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return the answer's document; raises what `send` and `content` do."""
        return self.content(self.send(method, path, **options))

    def parse(self, kind: type[Model], method: str, path: str, **options: Any) -> Model:
        """Send a request and return the answer's document as a type; raises as `parsed` does."""
        return self.parsed(kind, self.send(method, path, **options))

    def items(self, method: str, path: str, **options: Any) -> list[Any]:
        """Send a request and return the items of the answer's list; raises as `parsed` does."""
        return self.parse(Items, method, path, **options).root

    def parsed(self, kind: type[Model], answer: httpx.Response) -> Model:
        """Return an answer's document as a type; raises what `content` does.

        Raises ``LabelStudioError`` if it has another form. If the request was to change anything,
        that is a ``LabelStudioUnavailableError``: whether it took effect is unknown.
        """
        document = self.content(answer)
        try:
            return kind.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            is_read = answer.request.method == "GET"
            raise (LabelStudioError if is_read else LabelStudioUnavailableError)(
                f"Label Studio at {self.base_url} answered {answer.request.method} "
                f"{answer.request.url.path} in an unknown form: {where}: {first['msg']}.",
                hint="Use a version of Label Studio that ls-pipeline supports.",
            ) from None

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return the answer. GET requests are retried twice, others never.

        The answer may be an error that Label Studio itself reports (see `is_own_error`), such as
        400, 404 or 500, or a 413: the request is too large. Raises ``LabelStudioAccessError`` for
        the API key, and ``LabelStudioUnavailableError`` for every other error: whether a write
        took effect is then unknown.
        """
        with self.errors_translated():
            answer = self.http.request(path, method, **options)
        if foreign := self._foreign(answer):
            raise foreign
        if answer.status_code in {401, 403}:
            raise self._access_error()
        is_known = is_own_error(answer) or answer.status_code == 413  # noqa: PLR2004
        if answer.status_code in {408, 429} or (answer.is_error and not is_known):
            what = f"answered {answer.status_code} to {method} /{path}: {detail(answer)}"
            raise self._unavailable(what, SEE_LOG if answer.is_server_error else CHECK_SERVER)
        return answer

    def content(self, answer: httpx.Response) -> Any:
        """Return an answer's document.

        Raises ``ProjectNotFoundError`` for 404, ``LabelStudioUnavailableError`` for server errors
        (whether a write took effect is unknown), and ``LabelStudioError`` for other refusals and
        if the document is not JSON.
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
        except (ValueError, RecursionError):
            raise self.not_label_studio() from None

    @contextmanager
    def errors_translated(self) -> Iterator[None]:
        """Raise an error of ours for each exception of httpx and of `Session`."""
        import httpx

        from ls_pipeline.resources.label_studio.session import TokenRefreshError, TokenRefusedError

        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise invalid_url("LABEL_STUDIO_URL") from error
        except httpx.HTTPError as error:
            what, hint = unanswered(error, self.base_url)
            raise LabelStudioUnavailableError(
                f"Label Studio at {self.base_url} {what}", hint=hint
            ) from error
        except TokenRefreshError as error:
            foreign = self._foreign(error.answer)
            raise foreign or self._unavailable(str(error), CHECK_SERVER) from error
        except TokenRefusedError as error:
            raise self._access_error() from error

    @cached_property
    def http(self) -> Session:
        """What sends requests. Raises ``LabelStudioAccessError`` without a valid key."""
        # httpx is heavy, and not needed to load the definitions.
        import httpx

        from ls_pipeline.resources.label_studio.session import Session, TokenRefusedError

        try:
            httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise invalid_url("LABEL_STUDIO_URL") from error
        if not self.api_key:
            raise LabelStudioAccessError(
                "The API key for Label Studio is missing.",
                hint=f"Set LABEL_STUDIO_API_KEY to a token from {self.base_url}/user/account.",
            )
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise LabelStudioAccessError(
                "LABEL_STUDIO_API_KEY contains a line break, a space, a quotation mark or another "
                "character that no token has.",
                hint=f"Copy it again from {self.base_url}/user/account.",
            )
        try:
            return Session(self.base_url, self.api_key, headers=self._headers)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            raise unusable_client(error, self.base_url) from None  # it may quote a password
        except TokenRefusedError as error:  # an expired personal access token
            raise self._access_error() from error

    def not_label_studio(self) -> LabelStudioError:
        through = through_proxy(self.base_url)
        return LabelStudioError(
            f"The server at {self.base_url} is not Label Studio.",
            hint=f"Correct LABEL_STUDIO_URL. {through or IDENTITY_PROXY}",
        )

    def _foreign(self, answer: httpx.Response) -> LabelStudioError | None:
        """Return the error for an answer of a server in front of Label Studio; None for others."""
        if answer.has_redirect_location:
            what, hint = redirected(answer, self.base_url)
            return LabelStudioError(f"Label Studio at {self.base_url} {what}", hint=hint)
        if answer.status_code in {401, 403} and not is_own_error(answer):
            return LabelStudioAccessError(
                f"A server in front of Label Studio at {self.base_url} refuses the request "
                f"({answer.status_code} {answer.reason_phrase}).",
                hint=through_proxy(self.base_url) or IDENTITY_PROXY,
            )
        return None

    def _unavailable(self, what: str, hint: str) -> LabelStudioUnavailableError:
        hint = f"{hint} {through_proxy(self.base_url)}".rstrip()
        return LabelStudioUnavailableError(f"Label Studio at {self.base_url} {what}", hint=hint)

    def _access_error(self) -> LabelStudioAccessError:
        return LabelStudioAccessError(
            f"Label Studio at {self.base_url} refuses LABEL_STUDIO_API_KEY.",
            hint=f"Take a new token from {self.base_url}/user/account (legacy tokens must be "
            "enabled for the organization).",
        )


def created_or_found(create: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Create something. If that fails, it may exist all the same: return it if it is found.

    Raises what ``create`` raises if it is not found.
    """
    try:
        return create()
    except LabelStudioError:
        found = find()
        if found is None:
            raise
        return found


def invalid_url(variable: str) -> InvalidVariableError:
    """Return the error for a URL that the client refuses, such as for its host's name."""
    return InvalidVariableError(
        variable, "is not a valid URL.", hint="Correct it, as in http://localhost:8080."
    )


def detail(answer: httpx.Response) -> str:
    """Return in one sentence why Label Studio refused a request."""
    try:
        reason = answer.json()
    except (ValueError, RecursionError):
        return answer.reason_phrase + "."
    if isinstance(reason, dict):
        reason = reason.get("validation_errors") or reason.get("detail") or reason
    if isinstance(reason, dict):
        reason = reason.get("non_field_errors") or reason
    if isinstance(reason, list):
        reason = "; ".join(str(entry) for entry in reason if entry)
    text = str(reason)
    return (text if len(text) <= LONGEST_DETAIL else text[:LONGEST_DETAIL] + "…").rstrip(".") + "."


def is_own_error(answer: httpx.Response) -> bool:
    """Return whether Label Studio's own code refused or failed, not a proxy or the web server.

    Its error document repeats the status (``core/utils/common.py`` of Label Studio). A server
    error of its own says nothing about what it stored: it may have failed after the commit.
    """
    try:
        document = answer.json()
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("status_code") == answer.status_code

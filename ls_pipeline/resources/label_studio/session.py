"""Requests to Label Studio with an API key; GET requests are repeated if it is busy."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

from ls_pipeline.resources.label_studio.client import BoundedClient, lazy_context
from ls_pipeline.resources.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 10.0

SILENT_SECONDS = 10.0
"""How long a request waits after one that was not answered, until one is."""

RETRIES = 2
"""How often a GET request is repeated."""

FIRST_PAUSE = 1.0
"""Seconds before the first repetition; each further pause is twice as long."""

LONGEST_PAUSE = 60.0
"""Seconds that the server may ask for."""

MARGIN = 30.0
"""How many seconds before its end an access token is renewed."""

BUSY = {408, 409, 429}
"""Statuses of requests to repeat, besides those of the server's own errors."""


class TokenRefusedError(Exception):
    """Label Studio refuses the API key itself."""


class TokenRefreshError(Exception):
    """A personal access token could not be exchanged for an access token; says why."""

    def __init__(self, what: str, answer: httpx.Response) -> None:
        self.answer = answer
        super().__init__(what)


class Session:
    """Sends requests with a legacy token, or with a personal access token, which it refreshes.

    A personal access token is a JWT. Label Studio exchanges it for an access token, which lasts
    for minutes. Safe to use from several threads.

    ``headers`` are sent with each request, but to no other server that it is redirected to.

    Raises ``TokenRefusedError`` for a personal access token that has expired.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        client: httpx.Client | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._base_url, self._api_key = base_url.rstrip("/"), api_key
        # The server that pip installs sends head and body separately. On a kept-alive connection
        # the body waits about 40 ms for a delayed acknowledgement; on a new one it does not.
        is_plain = self._base_url.startswith("http://")
        self._client = client or BoundedClient(
            verify=lazy_context() if is_plain else True,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Connection": "close"},
        )
        self._headers, self._own = headers or {}, httpx.URL(self._base_url)
        self._client.event_hooks["request"].append(self._add_headers)
        self._patience = Patience(
            TIMEOUT_SECONDS, short_seconds=min(SILENT_SECONDS, TIMEOUT_SECONDS)
        )
        self._lock = threading.Lock()
        self._access, self._expires = "", 0.0
        claims = _claims(api_key)
        self._is_personal = claims is not None
        if claims is not None and _end(claims) < time.time():
            raise TokenRefusedError

    def request(
        self,
        path: str,
        method: str,
        *,
        headers: Mapping[str, str] | None = None,
        retries: int | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request and return the answer, whatever its status.

        Only GET requests are repeated by default. Raises httpx's exceptions, ``TokenRefusedError``
        and ``TokenRefreshError``.
        """
        retries = (RETRIES if method == "GET" else 0) if retries is None else retries
        for attempt in range(retries + 1):
            is_last = attempt == retries
            try:
                answer = self._send(
                    method,
                    path,
                    headers={**(headers or {}), "Authorization": self._authorization()},
                    **options,
                )
            except (httpx.ConnectError, httpx.RemoteProtocolError):
                if is_last:
                    raise
                asked = 0.0
            else:
                if is_last or not (answer.is_server_error or answer.status_code in BUSY):
                    break
                asked = _seconds(answer.headers.get("retry-after", ""))
            time.sleep(min(asked, LONGEST_PAUSE) or FIRST_PAUSE * 2**attempt)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        patience = self._patience
        began, seconds = patience.now(), TIMEOUT_SECONDS
        if patience.is_silent:
            seconds = patience.short_seconds
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_SECONDS))
        try:
            answer = self._client.request(
                method, f"{self._base_url}/{path}", **{"timeout": timeout, **options}
            )
        except httpx.TimeoutException:
            patience.unanswered(began)
            raise
        patience.answered()
        return answer

    def _add_headers(self, request: httpx.Request) -> None:
        url = request.url
        is_own = (url.scheme, url.netloc) == (self._own.scheme, self._own.netloc)
        for name, value in self._headers.items():
            request.headers.pop(name, None)
            if is_own:
                request.headers[name] = value

    def _authorization(self) -> str:
        if not self._is_personal:
            return f"Token {self._api_key}"
        with self._lock:
            if time.time() > self._expires - MARGIN:
                self._access = self._refreshed()
                self._expires = _end(_claims(self._access) or {})
            return f"Bearer {self._access}"

    def _refreshed(self) -> str:
        answer = self._send("POST", "api/token/refresh/", json={"refresh": self._api_key})
        if answer.is_server_error:
            what = f"answered {answer.status_code} to a token refresh."
            raise TokenRefreshError(what, answer)
        try:
            access = answer.json()["access"]
        except (ValueError, RecursionError):
            what = "did not answer a token refresh with JSON."
            raise TokenRefreshError(what, answer) from None
        except (KeyError, TypeError):
            access = None
        is_token = isinstance(access, str) and access.isascii() and access.isprintable()
        if answer.is_error or not is_token:
            raise TokenRefusedError
        return str(access)


def _claims(token: str) -> dict[str, Any] | None:
    """Return what a JWT says, unverified; None for other tokens."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _end(claims: Mapping[str, Any]) -> float:
    """Return when a token ends; one that does not say so has ended."""
    end = claims.get("exp")
    return float(end) if isinstance(end, (int, float)) else 0.0


def _seconds(text: str) -> float:
    """Return the seconds in a ``Retry-After`` header; otherwise 0."""
    return float(text) if text.isdecimal() else 0.0

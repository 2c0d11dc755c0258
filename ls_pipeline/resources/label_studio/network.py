"""What is between us and Label Studio: proxies, certificates, redirects and identity proxies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from ls_pipeline.domain.errors import InvalidVariableError
from ls_pipeline.domain.text import without_login
from ls_pipeline.resources.failures import Service, certificate_hint

if TYPE_CHECKING:
    import httpx

CHECK_SERVER = "Check that it runs and that LABEL_STUDIO_URL is its address."

IDENTITY_PROXY = (
    "If an identity proxy is in front of Label Studio, set LABEL_STUDIO_HEADERS to the headers "
    "that it lets through."
)

_SERVICE = Service("Label Studio", "", "LABEL_STUDIO_URL", certificates="SSL_CERT_FILE")


def unanswered(error: httpx.HTTPError, url: str) -> tuple[str, str]:
    """Return what happened to a request without an answer, and what to do."""
    reason = (str(error) or type(error).__name__).rstrip(".")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        hint = certificate_hint(reason).format(service=_SERVICE)
        return f"has a certificate that is not trusted ({reason}).", hint
    if "WRONG_VERSION_NUMBER" in reason:
        return f"does not speak https ({reason}).", "Write http:// in LABEL_STUDIO_URL."
    if proxy := proxy_of(url):
        return f"does not answer through the proxy {proxy} ({reason}).", _without_proxy(url)
    return f"does not answer ({reason}).", CHECK_SERVER


def redirected(answer: httpx.Response, url: str) -> tuple[str, str]:
    """Return where an answer redirects to, and what to do."""
    asked, place = answer.url, answer.url.join(answer.headers["location"])
    shown = str(place.copy_with(query=None, fragment=None, userinfo=None))
    if place.path != asked.path:
        return f"redirects to {shown}.", f"{IDENTITY_PROXY} Otherwise correct LABEL_STUDIO_URL."
    base = shown.removesuffix(str(asked.copy_with(query=None))[len(url) :])
    return f"redirects to {shown}.", f"Set LABEL_STUDIO_URL to {base}."


def proxy_of(url: str) -> str:
    """Return the proxy that the environment sets for a URL, and its variable; empty without one.

    A name and a password in it are masked.
    """
    parsed, proxies = urlsplit(url), getproxies_environment()
    scheme = parsed.scheme if proxies.get(parsed.scheme) else "all"
    proxy = proxies.get(scheme, "")
    if not proxy or proxy_bypass(parsed.netloc, proxies):
        return ""
    address = without_login(proxy if "://" in proxy else f"http://{proxy}")
    return f"{address} of {_variable(scheme)}"


def through_proxy(url: str) -> str:
    """Return a sentence about the proxy that a URL was asked through; empty without a proxy."""
    proxy = proxy_of(url)
    return f"It was asked through the proxy {proxy}. {_without_proxy(url)}" if proxy else ""


def unusable_client(error: Exception, url: str) -> InvalidVariableError:
    """Return the error for a variable that the client could not be made with."""
    proxies, own = getproxies_environment(), urlsplit(url).scheme
    schemes = [scheme for scheme in (own, "all", "http", "https") if proxies.get(scheme)]
    if isinstance(error, OSError) or not schemes:  # ssl.SSLError is an OSError
        variable = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        reason = getattr(error, "strerror", None) or type(error).__name__
        what = f"names certificates that can't be read ({reason})."
        return InvalidVariableError(variable, what, hint="Correct it, or unset it.")
    what = "is not the address of a proxy that can be used."
    hint = "Correct it, as in http://proxy:3128."
    return InvalidVariableError(_variable(schemes[0]), what, hint=hint)


def _variable(scheme: str) -> str:
    lower = f"{scheme}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _without_proxy(url: str) -> str:
    return f"If no proxy is needed, add {urlsplit(url).hostname} to NO_PROXY."

"""What is between us and Label Studio is named, with the variable to set."""

from __future__ import annotations

import httpx
import pytest

from ls_pipeline.domain.errors import (
    InvalidVariableError,
    LabelStudioAccessError,
    LabelStudioError,
    LabelStudioUnavailableError,
    PipelineError,
)
from ls_pipeline.resources.environment import label_studio_headers
from ls_pipeline.resources.label_studio import session as sessions
from ls_pipeline.resources.label_studio.http import LabelStudioAPI
from ls_pipeline.resources.label_studio.session import Session

URL = "http://labels.example.com/studio"
PERSONAL = "e30.eyJleHAiOjk5OTk5OTk5OTl9.x"
UNTRUSTED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {} (_ssl.c:1006)"


@pytest.fixture(autouse=True)
def direct(environment):
    """Unset the proxies of the machine, and make no pauses."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        environment.delenv(name, raising=False)
        environment.delenv(name.upper(), raising=False)
    environment.setattr(sessions.time, "sleep", lambda _: None)
    return environment


def api(answer, key="legacy", **headers):
    """Return an API whose server answers each request as given, or with an exception."""

    def handle(request):
        given = answer(request) if callable(answer) else answer
        if isinstance(given, str):
            raise httpx.ConnectError(given, request=request)
        return given

    opened = LabelStudioAPI(URL, key)
    client = httpx.Client(transport=httpx.MockTransport(handle))
    opened.http = Session(URL, key, client, headers)
    return opened


def message(answer, kind=LabelStudioError, key="legacy"):
    with pytest.raises(kind) as caught:
        api(answer, key).json("GET", "api/version")
    assert type(caught.value) is kind
    return str(caught.value)


def moved(location, status=302):
    return httpx.Response(status, headers={"location": location})


@pytest.mark.parametrize("key", ["legacy", PERSONAL])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_login_page_elsewhere_is_an_identity_proxy(key, status):
    said = message(moved("https://login.example.com/sso?state=secret", status), key=key)

    assert said == (
        "Label Studio at http://labels.example.com/studio redirects to "
        "https://login.example.com/sso. If an identity proxy is in front of Label Studio, set "
        "LABEL_STUDIO_HEADERS to the headers that it lets through. Otherwise correct "
        "LABEL_STUDIO_URL."
    )


def test_redirect_to_the_same_path_names_the_new_address():
    said = message(lambda request: moved(str(request.url.copy_with(scheme="https"))))

    assert said.endswith("Set LABEL_STUDIO_URL to https://labels.example.com/studio.")


def test_redirected_import_is_not_sent_again_as_another_request():
    requests = []

    def answer(request):
        requests.append(request)
        return moved("https://labels.example.com/studio/api/projects/1/import")

    with pytest.raises(LabelStudioError, match="redirects to https"):
        api(answer).json("POST", "api/projects/1/import", content=b"[]")
    assert [request.method for request in requests] == ["POST"]


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_that_is_not_label_studios_names_the_identity_proxy(status):
    said = message(httpx.Response(status, text="Invalid IAP credentials"), LabelStudioAccessError)

    assert said.startswith("A server in front of Label Studio at http://labels.example.com/studio")
    assert "LABEL_STUDIO_HEADERS" in said
    assert "LABEL_STUDIO_API_KEY" not in said


def test_refusal_of_label_studio_names_the_key():
    own = httpx.Response(401, json={"status_code": 401, "detail": "Invalid token."})

    assert "refuses LABEL_STUDIO_API_KEY" in message(own, LabelStudioAccessError)


def test_web_page_names_the_identity_proxy():
    said = message(httpx.Response(200, text="<html>Log in</html>"))

    assert "is not Label Studio" in said
    assert "LABEL_STUDIO_HEADERS" in said


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("self-signed certificate", "Set SSL_CERT_FILE"),
        ("unable to get local issuer certificate", "Set SSL_CERT_FILE"),
        ("Hostname mismatch, certificate is not valid for 'a'", "Set LABEL_STUDIO_URL"),
        ("certificate has expired", "Have its certificate renewed"),
    ],
)
def test_certificate_that_is_not_trusted_says_what_to_do(reason, advice):
    said = message(UNTRUSTED.format(reason), LabelStudioUnavailableError)

    assert "has a certificate that is not trusted" in said
    assert advice in said


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "answer", ["Connection refused", httpx.Response(502), httpx.Response(407)], ids=str
)
def test_proxy_in_the_way_is_named_without_its_password(direct, variable, answer):
    direct.setenv(variable, "http://me:hunter2@proxy.example.com:3128")
    said = message(answer, LabelStudioUnavailableError)

    assert f"the proxy http://***@proxy.example.com:3128 of {variable}" in said
    assert said.endswith("If no proxy is needed, add labels.example.com to NO_PROXY.")
    assert "hunter2" not in said


def test_proxy_that_is_not_asked_is_not_named(direct):
    direct.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    direct.setenv("HTTP_PROXY", "http://proxy.example.com:3128")
    direct.setenv("NO_PROXY", "labels.example.com")

    assert "proxy" not in message("Connection refused", LabelStudioUnavailableError)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/absent"),
        ("SSL_CERT_FILE", "/"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("HTTP_PROXY", "gopher://me:hunter2@proxy:1"),
        ("ALL_PROXY", "socks5://me:hunter2@proxy:1"),
    ],
)
def test_variable_that_no_client_can_use_is_named(direct, variable, value):
    direct.setenv(variable, value)

    with pytest.raises(InvalidVariableError, match=f"^{variable} ") as caught:
        LabelStudioAPI(URL, "legacy").json("GET", "api/version")
    assert "hunter2" not in str(caught.value)


# -- LABEL_STUDIO_HEADERS ---------------------------------------------------------------------


HEADERS = {"CF-Access-Client-Id": "id", "CF-Access-Client-Secret": "a: b"}


@pytest.mark.parametrize(
    "text",
    [
        "CF-Access-Client-Id: id\n\n  CF-Access-Client-Secret:a: b\n",
        ' {"CF-Access-Client-Id": "id", "CF-Access-Client-Secret": "a: b"}',
    ],
)
def test_headers_are_lines_or_json(environment, text):
    environment.setenv("LABEL_STUDIO_HEADERS", text)

    assert label_studio_headers() == HEADERS


def test_headers_are_sent_with_every_request_to_label_studio_alone():
    seen = []

    def answer(request):
        seen.append((request.url.host, request.headers.get("x-secret")))
        if request.url.host == "labels.example.com" and "refresh" not in request.url.path:
            return moved("https://bucket.example.com/a.png?signature=1")
        return httpx.Response(200, json={"access": PERSONAL})

    opened = api(answer, PERSONAL, **{"X-Secret": "s"})
    opened.http.request("tasks/1/resolve/", "GET", follow_redirects=True)

    assert seen == [
        ("labels.example.com", "s"),
        ("labels.example.com", "s"),
        ("bucket.example.com", None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "X-Hunter2 é: a",
        "X: hunter2é",
        '{"X": ["hunter2"]}',
        '{"hunter2"',
        "Host: hunter2",
    ],
)
def test_headers_that_can_not_be_sent_are_not_quoted(environment, text):
    environment.setenv("LABEL_STUDIO_HEADERS", text)

    with pytest.raises(PipelineError, match=r"^LABEL_STUDIO_HEADERS ") as caught:
        label_studio_headers()
    assert "unter2" not in str(caught.value)


def test_header_of_the_api_key_is_refused(environment):
    environment.setenv("LABEL_STUDIO_HEADERS", "authorization: Bearer x")

    with pytest.raises(InvalidVariableError, match=r"sets Authorization, .* Proxy-Authorization"):
        label_studio_headers()

"""The webhook receiver: which calls it accepts, and what it records."""

import contextlib
import json
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings

from ls_pipeline.cli.main import main
from ls_pipeline.cli.servers import webhook_receiver
from ls_pipeline.cli.servers.ports import choose_port
from ls_pipeline.domain.errors import HomeError, LedgerUnavailableError
from ls_pipeline.resources.environment import (
    LabelStudioAddress,
    home,
    webhook_secret,
    webhook_url,
    write_local_label_studio,
)
from ls_pipeline.resources.labeling_app import SECRET_HEADER
from ls_pipeline.settings.validation import build_connection
from tests.engine.test_load import Wrapped
from tests.strategies import ANY_JSON, TEXTS, like

SECRET = "our-secret"
CALL = b'{"action": "ANNOTATION_CREATED"}'


@pytest.fixture
def ledger(empty_ledger):
    target = {"type": "s3-completions", "path": "labels"}
    empty_ledger.database.clock = time.time
    empty_ledger.save(
        build_connection("reviews", source=None, target=target, project="Reviews"), "test"
    )
    return empty_ledger


def serving(ledger):
    return webhook_receiver.serving(ledger, SECRET, "127.0.0.1", choose_port(None, 3001))


@pytest.fixture(scope="module")
def served(_opened_ledger):
    with serving(_opened_ledger) as url:
        yield url


@pytest.fixture
def url(ledger, served):
    return served


def call(url, name="reviews", secret=SECRET, content=CALL):
    headers = {SECRET_HEADER: secret} if secret is not None else {}
    return httpx.post(f"{url}/connections/{name}", content=content, headers=headers, timeout=10)


def webhook_time(ledger, name="reviews"):
    """Return the time of a connection's last webhook, as soon as it is recorded."""
    for _ in range(100):
        if name in ledger.webhook_times():
            break
        time.sleep(0.02)
    return ledger.webhook_times().get(name)


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--port", "70000"], 2, "70000 is not in the range"),
        (["--host", "192.0.2.1"], 1, "192.0.2.1 is not an address"),
    ],
)
def test_unusable_address_is_reported(environment, tmp_path, flags, code, text):
    environment.chdir(tmp_path)
    done = CliRunner().invoke(main, ["webhooks", *flags])

    assert (done.exit_code, text in done.stderr) == (code, True)


def test_idle_clients_lock_out_no_other(ledger, monkeypatch):
    monkeypatch.setattr(webhook_receiver, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(webhook_receiver, "HEAD_SECONDS", 3.0)
    with serving(ledger) as url, contextlib.ExitStack() as idle:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(4):
            idle.enter_context(socket.create_connection((host, int(port))))
        answers = [call(url).status_code]
        while answers[-1] == 503 and len(answers) < 100:
            time.sleep(0.2)
            answers.append(call(url).status_code)

    assert (answers[0], answers[-1]) == (503, 204)


def test_call_with_the_secret_is_recorded(ledger, url):
    answer = call(url)

    assert (answer.status_code, answer.content) == (204, b"")
    assert webhook_time(ledger) == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("secret", [None, "", "wrong", "our-secre", "our-secret2", "ü"])
def test_call_without_the_secret_is_refused_and_not_recorded(ledger, url, secret):
    wrong = secret if secret is None else secret.encode()
    answer = call(url, secret=wrong)
    call(url, name="other")

    assert (answer.status_code, SECRET in answer.text) == (401, False)
    assert ledger.webhook_times() == {}


def test_secret_is_checked_before_a_body_is_read(url):
    assert call(url, secret="wrong", content=b"x" * 10_000_000).status_code == 401


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"action": 1}', 400),
        (b"[" * 50_000, 400),
        (b"\xff", 400),
        (b" " * (webhook_receiver.LARGEST_BODY + 1), 413),
    ],
)
def test_body_that_is_not_a_call_is_refused_and_not_recorded(ledger, url, content, status):
    answer = call(url, content=content)

    assert (answer.status_code, ledger.webhook_times()) == (status, {})


def test_body_that_does_not_arrive_times_out(ledger, monkeypatch):
    monkeypatch.setattr(webhook_receiver, "BODY_SECONDS", 0.2)
    with serving(ledger) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = f"POST /connections/reviews HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\n"
            slow.sendall(f"{head}Content-Length: 10\r\n\r\n".encode())
            answer = slow.recv(1000)

    assert answer.startswith(b"HTTP/1.1 408")


def test_other_paths_and_methods_are_refused(url):
    statuses = [
        httpx.get(f"{url}/connections/reviews").status_code,
        httpx.post(f"{url}/elsewhere", content=CALL).status_code,
        httpx.get(f"{url}{webhook_receiver.HEALTH_PATH}").status_code,
    ]

    assert statuses == [405, 404, 200]


def test_unknown_connection_is_not_recorded(ledger, url):
    assert call(url, name="absent").status_code == 204
    call(url)
    assert webhook_time(ledger)
    assert list(ledger.webhook_times()) == ["reviews"]


def test_burst_is_answered_while_the_ledger_hangs_and_recorded_at_most_twice(ledger):
    noted, hangs = [], threading.Event()

    def mark(name):
        hangs.wait(60)
        noted.append(name)

    with serving(Wrapped(ledger, mark_webhook=mark)) as url, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: call(url).status_code, range(20)))
        while_it_hung = list(noted)
        hangs.set()

    assert (set(answers), while_it_hung) == ({204}, [])
    assert noted in (["reviews"], ["reviews"] * 2)


def test_ledger_that_fails_is_logged_and_label_studio_gets_no_error(ledger, caplog):
    def fail(_name):
        raise LedgerUnavailableError("ledger.db", "is locked")

    with serving(Wrapped(ledger, mark_webhook=fail)) as url:
        assert call(url).status_code == 204

    assert "is locked" in caplog.text
    assert SECRET not in caplog.text


def test_taken_port_is_reported_in_a_sentence(url):
    port = url.rpartition(":")[2]
    done = CliRunner().invoke(main, ["webhooks", "--port", port])

    assert (done.exit_code, done.stderr) == (
        1,
        f"Error: Port {port} is taken. Choose another, or leave it out.\n",
    )


# -- the secret, and where ----------------------------------------------------------------


def test_secret_is_created_once_and_readable_only_by_its_owner(environment):
    with ThreadPoolExecutor(8) as threads:
        secrets = set(threads.map(lambda _: webhook_secret(), range(16)))
    (file,) = home().iterdir()

    assert len(secrets) == 1
    assert len(secrets.pop()) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_secret_of_the_environment_comes_first(environment):
    environment.setenv("LS_PIPELINE_WEBHOOK_SECRET", "given")

    assert (webhook_secret(), home().exists()) == ("given", False)


def test_address_is_that_of_the_environment_or_of_the_home(environment):
    home().mkdir()
    nowhere = webhook_url()
    write_local_label_studio(LabelStudioAddress("http://labels", "key", "http://127.76.83.1:3001"))
    own = webhook_url()
    environment.setenv("LABEL_STUDIO_URL", "http://elsewhere")
    elsewhere = webhook_url()
    environment.setenv("LS_PIPELINE_WEBHOOK_URL", "https://labels.example.com/hooks/")

    assert (nowhere, own, elsewhere) == ("", "http://127.76.83.1:3001", "")
    assert webhook_url() == "https://labels.example.com/hooks"


@pytest.mark.parametrize("name", ["%00", "a%20b", "%ff", "x" * 100])
def test_name_that_no_connection_can_have_is_refused(ledger, url, name):
    assert call(url, name).status_code == 404


def test_without_a_secret_every_call_is_refused(ledger):
    with webhook_receiver.serving(ledger, "", "127.0.0.1", choose_port(None, 3001)) as open_url:
        assert [call(open_url, secret=secret).status_code for secret in ("", None)] == [401, 401]


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"short"])
def test_damaged_secret_is_refused_in_a_sentence(environment, content):
    home().mkdir(parents=True)
    (home() / "webhook-secret").write_bytes(content)

    with pytest.raises(HomeError, match="it has no secret"):
        webhook_secret()


@given(like(action=TEXTS).map(json.dumps) | ANY_JSON.map(json.dumps))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_is_accepted_or_refused(url, body):
    assert call(url, content=body.encode()).status_code in {204, 400}

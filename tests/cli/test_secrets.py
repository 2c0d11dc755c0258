"""No command shows a secret that the environment, a file or an argument holds, nor a part of it."""

import logging
import socket

import click
import pytest
from click.testing import CliRunner
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ls_pipeline.cli.main import main
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG

SHOWN = 6
"""A part of a secret of that many characters is a leak."""

CHUNKS = st.text("GHJKLMNPQRSTUVWXYZghjkmnpqrstuvwxyz", min_size=8, max_size=12)
"""None is in a hexadecimal id, and none in a word."""

SECRETS = st.tuples(
    CHUNKS, st.sampled_from(["", "@", ":", "/", "?", "#", "%", "[", " ", "é"]), CHUNKS
)

NO_SERVER = "127.0.0.1:9"

LEDGERS = [
    "{}",
    "postgresql+psycopg://user:{}@127.0.0.1:1/db",
    "postgresql://user:{}@127.0.0.1:1/db",
    "postgresql+psycopg://user:{}@127.0.0.1:port/db",
    "postgresql+psycopg://user:{}@[::1/db",
    "postgresql+psycopg:/user:{}@127.0.0.1/db",
    "postgresql+psycopg://127.0.0.1:1/db?password={}",
    "postgresql+psycopg://127.0.0.1:1/db?sslpassword={}",
    "postgresql+psycopg://127.0.0.1:1/db?unknown={}",
    "mysql://user:{}@127.0.0.1/db",
    "sqlite:///unwritable/x.db?password={}",
    "host=127.0.0.1 password={}",
]
URLS = [
    "{}",
    f"http://user:{{}}@{NO_SERVER}",
    f"user:{{}}@{NO_SERVER}",
    f"http://{NO_SERVER}/?token={{}}",
    "http://user:{}@[bad",
    "http://user:{}@host:99999",
    "ftp://user:{}@host",
]
TOKENS = ["{}", "{}\n", "Token {}", "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.{}"]
HEADERS = ["{}", "X-Key: {}", "Host: {}", '{{"X-Key": "{}"}}', '{{"{}": 5}}', '["{}"', "{}:"]
PROXIES = [f"http://user:{{}}@{NO_SERVER}", f"user:{{}}@{NO_SERVER}", "gopher://user:{}@host"]
KEYS = [
    "{}",
    '{{"type": "service_account", "private_key": "{}"',
    '{{"type": "service_account", "private_key": "{}", "client_email": "a@b.c", "token_uri": "u"}}',
    '{{"type": "authorized_user", "refresh_token": "{}", "client_id": "a", "client_secret": "b"}}',
    '["{}"]',
]
DAGSTER = [
    "storage:\n  postgres:\n    postgres_url: postgresql://user:{}@127.0.0.1:1/db?connect_timeout=1",
    "storage:\n  postgres:\n    postgres_url: postgresql+psycopg://user:{}@127.0.0.1:1/db",
    "storage:\n  postgres:\n    postgres_url: ['{}'",
    "storage:\n  postgres:\n    password: '{}'",
    "storage: '{}'",
]
VARIABLES = {
    "LS_PIPELINE_DATABASE_URL": LEDGERS,
    "LABEL_STUDIO_URL": URLS,
    "LABEL_STUDIO_PUBLIC_URL": URLS,
    "LS_PIPELINE_WEBHOOK_URL": URLS,
    "AWS_ENDPOINT_URL": URLS,
    "STORAGE_EMULATOR_HOST": URLS,
    "LABEL_STUDIO_API_KEY": TOKENS,
    "LABEL_STUDIO_HEADERS": HEADERS,
    "HTTP_PROXY": PROXIES,
    "SSL_CERT_FILE": TOKENS,
    "AWS_WEB_IDENTITY_TOKEN_FILE": TOKENS,
    "LS_PIPELINE_WEBHOOK_SECRET": TOKENS,
    "AWS_ACCESS_KEY_ID": TOKENS,
    "AWS_SECRET_ACCESS_KEY": TOKENS,
    "AWS_SESSION_TOKEN": TOKENS,
    "GOOGLE_APPLICATION_CREDENTIALS": KEYS,
    "LABEL_STUDIO_GOOGLE_CREDENTIALS": KEYS,
}
FILES = {
    "GOOGLE_APPLICATION_CREDENTIALS": KEYS,
    "LABEL_STUDIO_GOOGLE_CREDENTIALS": KEYS,
    "AWS_SHARED_CREDENTIALS_FILE": ["[default\n{}", "[default]\naws_secret_access_key={}\n=\n"],
    "DAGSTER_HOME": DAGSTER,
}
PLACES = [
    *((name, text, False) for name, texts in VARIABLES.items() for text in texts),
    *((name, text, True) for name, texts in FILES.items() for text in texts),
]
"""A variable, how the secret stands in it, and whether in a file that it names."""

OF_LIBRARIES = [place for place in PLACES if not place[0].startswith("LS_PIPELINE")]
"""Those that libraries read, which may quote them in their own errors."""


def _commands(command, *path):
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _commands(each, *path, name)
    else:
        yield " ".join(path)


ARGUMENTS = {
    "connections add": ["--source", "s3", "--source-path", "bucket", "--project", "Cats"],
    "connections apply": ["connections.yaml"],
    "export": ["s3://bucket", "--format", "JSON", "--output", "out"],
    "ledger copy": ["--to", "sqlite:///copy.db"],
    "start": ["--port", "{taken}"],
    "webhooks": ["--port", "{taken}"],
}
"""What a command needs besides a connection's name. A port that is taken lets no server start."""

OWN_SERVERS = {"demo"}
"""Commands that use no credentials but those of servers that they start."""

ASK_SERVERS = {"connections rebind", "doctor", "export", "start", "sync"}
"""Commands that try again for seconds if no server answers."""

COMMANDS = sorted({*_commands(main)} - OWN_SERVERS)


@pytest.fixture
def scene(environment, tmp_path):
    """Set up a ledger with a connection, and a port that is taken; return the port."""
    environment.chdir(tmp_path)
    environment.setenv("LS_PIPELINE_HOME", str(tmp_path / "home"))
    environment.setenv("LABEL_STUDIO_URL", f"http://{NO_SERVER}")
    environment.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        environment.setenv(name, "us-east-1")
    environment.setenv("AWS_MAX_ATTEMPTS", "1")
    ledger = Ledger(database_url())
    connection = build_connection(
        "cats",
        source={
            "type": "s3",
            "path": "bucket",
            "params": {"endpoint_url": f"http://{NO_SERVER}"},
        },
        target={"type": "gcs-completions", "path": "labels"},
        project="Cats",
        label_config=CONFIG,
    )
    ledger.save(connection, "test")
    ledger.close()
    (tmp_path / "connections.yaml").write_text("connections: {}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def full_words(command, port=0):
    """Return a command with what it needs."""
    words, found = command.split(), main
    for word in words:
        found = found.commands[word]
    of_one = any(
        isinstance(param, click.Argument) and param.name == "name" for param in found.params
    )
    more = ARGUMENTS.get(command, [])
    return [*words, *(["cats"] if of_one else []), *(word.format(taken=port) for word in more)]


def _shown(words, place, secret, folder):
    """Run a command with a secret at a place; return what it shows and stores."""
    variable, text, in_file = place
    value = text.format(secret)
    if variable == "DAGSTER_HOME":
        home = folder / "dagster"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(value)
        value = str(home)
    elif in_file:
        (folder / "key").write_text(value)
        value = str(folder / "key")
    with pytest.MonkeyPatch.context() as patch, _Logs() as logs:
        patch.setenv(variable, value)
        done = CliRunner().invoke(main, words)
    stored = [
        file.read_bytes().decode(errors="replace")
        for file in (folder / "home").rglob("*")
        if file.is_file()
    ]
    error = "" if isinstance(done.exception, SystemExit) else repr(done.exception or "")
    return "\n".join([done.stdout, done.stderr, error, logs.text, *stored])


class _Logs(logging.Handler):
    """A context in which everything that is logged is kept."""

    def __init__(self):
        super().__init__()
        self.text = ""

    def emit(self, record):
        self.text += self.format(record)

    def __enter__(self):
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger().removeHandler(self)


def _leaks(chunks, shown):
    parts = {chunk[n : n + SHOWN] for chunk in chunks for n in range(len(chunk) - SHOWN + 1)}
    return {part for part in parts if part in shown}


def _check(command, port, folder, place, secret):
    first, between, second = secret
    words = full_words(command, port)
    shown = _shown(words, place, f"{first}{between}{second}", folder)

    assert _leaks((first, second), shown) == set()


@pytest.mark.parametrize("command", [each for each in COMMANDS if each not in ASK_SERVERS])
def test_no_command_shows_a_secret(command, scene, tmp_path):
    @settings(max_examples=15)
    @given(st.sampled_from(PLACES), SECRETS)
    def check(place, secret):
        _check(command, scene, tmp_path, place, secret)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(ASK_SERVERS))
def test_no_command_that_asks_servers_shows_a_secret(command, scene, tmp_path):
    @settings(max_examples=3, phases=[Phase.generate])
    @given(st.sampled_from(OF_LIBRARIES), SECRETS)
    def check(place, secret):
        _check(command, scene, tmp_path, place, secret)

    check()


def test_leak_of_a_part_is_found():
    assert _leaks(["abcdefgh"], "... bcdefg ...") == {"bcdefg"}
    assert _leaks(["abcdefgh"], "abcde fgh") == set()


def test_what_a_command_stores_is_searched(scene, tmp_path):
    (tmp_path / "home" / "dagster").mkdir()
    (tmp_path / "home" / "dagster" / "event").write_text("abcdefgh")
    shown = _shown(["connections", "list"], ("AWS_PROFILE", "{}", False), "x", tmp_path)

    assert _leaks(["abcdefgh"], shown)

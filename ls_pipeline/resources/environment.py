"""What the environment and the home say. Both are read at each call, never at import."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ls_pipeline.domain.errors import HomeError, InvalidVariableError
from ls_pipeline.resources.private_files import create_private_folder, write_private_file
from ls_pipeline.settings.addresses import is_url

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = re.compile(r"team:\S+|[^\s@,]+@[^\s@,]+\.[^\s@,]+")
"""An owner of assets in Dagster."""

DEFAULT_URL = "http://localhost:8080"

OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The permissions of other users of the machine."""


def home() -> Path:
    """Return the folder of our own state: LS_PIPELINE_HOME, else ``.ls_pipeline`` here."""
    return path_in("LS_PIPELINE_HOME") or Path(".ls_pipeline").absolute()


def path_in(variable: str) -> Path | None:
    """Return a variable's path in full, with ``~`` expanded; None if the variable is not set."""
    value = os.environ.get(variable)
    if value and (value[0] in "$%'\"" or value != value.strip()):
        what = "has a variable, a quotation mark or a space before or after its path."
        raise InvalidVariableError(variable, what, hint="Write the path alone, and the whole path.")
    try:
        return Path(value).expanduser().absolute() if value else None
    except RuntimeError:
        what = "begins with the home folder of a user that this machine does not have."
        raise InvalidVariableError(variable, what, hint="Write the whole path.") from None


def create_home(folder: Path | None = None) -> Path:
    """Create a home, or close an existing one to other users if it is ours. Return its path."""
    folder = folder or home()
    create_private_folder(folder)
    status = folder.stat()
    if status.st_mode & OTHERS and status.st_uid == os.geteuid():
        with suppress(OSError):  # a disk that is read-only stays as it is
            folder.chmod(status.st_mode & ~OTHERS)
    return folder


def database_url() -> str:
    """Return the ledger's database: LS_PIPELINE_DATABASE_URL, else a file in the home."""
    variable = "LS_PIPELINE_DATABASE_URL"
    if url := os.environ.get(variable):
        if url.startswith("sqlite:///~"):
            what = "has a ~, which is not expanded in a URL."
            hint = "Write the whole path, as in sqlite:////home/me/ledger.db."
            raise InvalidVariableError(variable, what, hint=hint)
        return url
    return ledger_in(home())


def ledger_in(folder: Path) -> str:
    """Return the URL of the ledger in a home."""
    return f"sqlite:///{(folder / 'ledger.db').as_posix()}"


def asset_owners() -> list[str]:
    """Return the owners of assets: LS_PIPELINE_OWNERS, as in ``team:vision,me@example.com``."""
    variable = "LS_PIPELINE_OWNERS"
    owners = (os.environ.get(variable) or "team:labeling").split(",")
    for owner in owners:
        if not OWNER.fullmatch(owner.strip()):
            what = f"has {owner.strip()!r}, which is neither an email address nor team:name."
            raise InvalidVariableError(variable, what)
    return [owner.strip() for owner in owners]


def whole_number(variable: str, default: int, allowed: range) -> int:
    """Return a variable's number; ``default`` if it is not set."""
    value = os.environ.get(variable) or str(default)
    if not (re.fullmatch("[0-9]{1,10}", value) and int(value) in allowed):
        what = f"is {value[:100]!r}, not a whole number from {allowed.start} to {allowed.stop - 1}."
        raise InvalidVariableError(variable, what)
    return int(value)


def check_url(variable: str, url: str) -> str:
    """Return a variable's URL.

    Raises ``InvalidVariableError``, which quotes nothing that may hold a password or a token.
    """
    if not is_url(url):
        is_address = re.fullmatch(r"([a-z]+://|[\w.-]+:\d+\b)[^\s?#@]*", url)
        quoted = f"{url[:100]!r}, which is " if is_address else ""
        raise InvalidVariableError(
            variable,
            f"is {quoted}not a URL without a login and a query.",
            hint="Correct it, as in http://localhost:8080.",
        )
    return url


_SECONDS = range(1, 86_401)


def poll_seconds() -> int:
    """Return the interval between ticks of sensors: LS_PIPELINE_POLL_SECONDS."""
    return whole_number("LS_PIPELINE_POLL_SECONDS", 30, _SECONDS)


def notification_seconds() -> int:
    """Return the interval of the sensor of notifications: LS_PIPELINE_NOTIFICATION_SECONDS."""
    return whole_number("LS_PIPELINE_NOTIFICATION_SECONDS", 4, _SECONDS)


def store_seconds() -> int:
    """Return how long a store may leave a request without an answer: LS_PIPELINE_STORE_SECONDS."""
    return whole_number("LS_PIPELINE_STORE_SECONDS", 120, range(20, 86_401))


def gc_threshold() -> int:
    """Return the garbage collector's threshold: LS_PIPELINE_GC_THRESHOLD; 0: Python's own."""
    return whole_number("LS_PIPELINE_GC_THRESHOLD", 0, range(2**31))


@dataclass(frozen=True, slots=True)
class LabelStudioAddress:
    """Where a Label Studio answers, and the key for it."""

    url: str
    api_key: str = field(repr=False)
    webhooks: str = ""
    """The receiver of its webhooks, if one runs next to it."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Headers for a server in front of it."""


def label_studio_address(url: str = "", api_key: str = "") -> LabelStudioAddress:
    """Return the Label Studio to use: as given, else of the environment, else of the home."""
    url = url or os.environ.get("LABEL_STUDIO_URL", "")
    key = (api_key or os.environ.get("LABEL_STUDIO_API_KEY", "")).strip()
    if not url and (local := read_local_label_studio()):
        return local
    url = check_url("LABEL_STUDIO_URL", url or DEFAULT_URL)
    return LabelStudioAddress(url.rstrip("/"), key, headers=label_studio_headers())


OWN_HEADERS = {"authorization", "connection", "content-length", "host", "transfer-encoding"}


def label_studio_headers() -> dict[str, str]:
    """Return the headers of each request to Label Studio: LABEL_STUDIO_HEADERS.

    They are lines, as in ``Name: value``, or a JSON object. Raises ``InvalidVariableError``, which
    quotes nothing: they may be secrets.
    """
    variable = "LABEL_STUDIO_HEADERS"
    headers = _parse_headers(os.environ.get(variable, ""))
    form = "Write each on a line, as in Name: value, or a JSON object."
    if headers is None:
        raise InvalidVariableError(variable, "has no headers that can be read.", hint=form)
    for number, (name, value) in enumerate(headers.items(), 1):
        is_value = isinstance(value, str) and value.isascii() and value.isprintable()
        if not (is_value and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)):
            what = f"has a name or a value that no header can have: number {number}."
            raise InvalidVariableError(variable, what, hint=form)
        if name.lower() in OWN_HEADERS:
            what = f"sets {name.title()}, which ls-pipeline sets itself."
            raise InvalidVariableError(
                variable, what, hint="Some identity proxies take Proxy-Authorization instead."
            )
    return headers


def _parse_headers(text: str) -> dict[str, str] | None:
    if text.lstrip().startswith("{"):
        try:
            headers = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return headers if isinstance(headers, dict) else None
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        return None
    return {name.strip(): value.strip() for name, _, value in lines}


def label_studio_public_url(url: str) -> str:
    """Return the address for people: LABEL_STUDIO_PUBLIC_URL, else ``url``."""
    if public := os.environ.get("LABEL_STUDIO_PUBLIC_URL"):
        url = check_url("LABEL_STUDIO_PUBLIC_URL", public)
    return url.rstrip("/")


def read_local_label_studio() -> LabelStudioAddress | None:
    """Return the Label Studio that `ls-pipeline start` runs here, None if it runs none."""
    try:
        address = json.loads(_address_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    match address:
        case {"url": str(url), "api_key": str(api_key), "webhooks": str(webhooks)}:
            return LabelStudioAddress(url, api_key, webhooks)
    return None


def write_local_label_studio(address: LabelStudioAddress | None) -> None:
    """Record for other processes where the home's Label Studio runs; None if it has stopped."""
    file = _address_file()
    if address is None:
        file.unlink(missing_ok=True)
        return
    write_private_file(file, json.dumps(asdict(address)))


def _address_file() -> Path:
    return home() / "label-studio.json"


def webhook_url() -> str:
    """Return where Label Studio can send webhooks, without a trailing slash; empty if nowhere.

    LS_PIPELINE_WEBHOOK_URL, else the receiver next to the home's Label Studio. Raises
    ``InvalidVariableError``.
    """
    url = os.environ.get("LS_PIPELINE_WEBHOOK_URL")
    if url:
        check_url("LS_PIPELINE_WEBHOOK_URL", url)
    if not url and not os.environ.get("LABEL_STUDIO_URL") and (local := read_local_label_studio()):
        url = local.webhooks
    return (url or "").rstrip("/")


def webhook_secret(folder: Path | None = None) -> str:
    """Return the secret that Label Studio sends with its webhooks: LS_PIPELINE_WEBHOOK_SECRET.

    If that is not set, the secret is in a file of a home, which the first call creates. Raises
    ``InvalidVariableError``, and ``HomeError`` if the file is damaged.
    """
    variable = "LS_PIPELINE_WEBHOOK_SECRET"
    if secret := os.environ.get(variable, "").strip():
        if not (secret.isascii() and secret.isprintable()):
            raise InvalidVariableError(variable, "has a character that no header can have.")
        return secret
    file = (folder or home()) / "webhook-secret"
    if not file.exists():
        create_home(folder)
        draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        write_private_file(draft, secrets.token_hex(32))
        with suppress(FileExistsError):  # another process created it at the same moment
            os.link(draft, file)
        draft.unlink()
    stored = file.read_bytes()
    if not re.fullmatch(rb"[!-~]{16,}", stored):  # such as after a loss of power
        raise HomeError(str(file), "it has no secret.", hint="Delete it: it is made again then.")
    return stored.decode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one pipeline keeps its state. The environment says what is empty, at each use."""

    home: str = ""
    database: str = ""
    webhooks: str = ""

    @property
    def folder(self) -> Path:
        """The home."""
        return Path(self.home).expanduser().absolute() if self.home else home()

    @property
    def database_url(self) -> str:
        """The ledger's database. In a home of its own, a pipeline has a ledger of its own."""
        return self.database or (ledger_in(self.folder) if self.home else database_url())

    @property
    def webhook_url(self) -> str:
        return self.webhooks.rstrip("/") or webhook_url()

    @property
    def webhook_secret(self) -> str:
        return webhook_secret(self.folder if self.home else None)


def unusable_variables() -> list[InvalidVariableError]:
    """Return an error for each variable of Dagster's processes that can't be parsed."""
    numbers = (poll_seconds, notification_seconds, store_seconds, gc_threshold)
    readers = (asset_owners, *numbers, webhook_url, label_studio_headers)
    return list(filter(None, map(_error_of, readers)))


def _error_of(read: Callable[[], object]) -> InvalidVariableError | None:
    try:
        read()
    except InvalidVariableError as error:
        return error
    return None

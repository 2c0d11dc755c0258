"""The Label Studio that `start`, `demo` and the tests run is closed to strangers."""

import itertools
import re
import stat
from pathlib import Path

import httpx
import pytest

from ls_pipeline.cli.servers.local_servers import (
    USERNAME,
    dagster_server,
    gcs_server,
    s3_server,
)
from ls_pipeline.cli.servers.local_servers import label_studio_server as create_label_studio

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def users(server):
    headers = {"Authorization": f"Token {server.client_environment['LABEL_STUDIO_API_KEY']}"}
    answer = httpx.get(f"{server.url}/api/users/", headers=headers, timeout=60)
    return [user["email"] for user in answer.raise_for_status().json()]


def sign_up(server, email):
    """Fill in the form as a browser does; return the answer's status."""
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        page = browser.get("/user/signup/").text
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[:1]
        form = {"csrfmiddlewaretoken": token, "email": email, "password": "a-strangers-password"}
        return browser.post("/user/signup/", data=form).status_code


@pytest.mark.server
def test_stranger_can_not_sign_up(label_studio_server):
    stranger = "stranger@example.com"
    status = sign_up(label_studio_server, stranger)

    assert status == 403
    assert {USERNAME, stranger} & {*users(label_studio_server)} == {USERNAME}


@pytest.mark.server
def test_files_of_label_studio_are_private(label_studio_server):
    folder = Path(label_studio_server.environment["LABEL_STUDIO_BASE_DATA_DIR"])
    created = [path for path in folder.rglob("*") if path.stat().st_mode & OTHERS]

    assert (folder / "label_studio.sqlite3").exists()
    assert created == []
    assert stat.S_IMODE(label_studio_server.log.stat().st_mode) == 0o600


def test_servers_listen_on_loopback_only(tmp_path):
    servers = [
        s3_server(tmp_path),
        gcs_server(tmp_path),
        create_label_studio(tmp_path, tmp_path, {}),
        dagster_server(tmp_path, {}),
    ]
    flags = {"-H", "--host", "--internal-host", "-h"}
    hosts = [
        host
        for server in servers
        for flag, host in itertools.pairwise(server.command)
        if flag in flags
    ]

    assert hosts == ["127.0.0.1"] * len(servers)

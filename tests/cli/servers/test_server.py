"""Servers start, report why they don't, and leave nothing behind."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest

from ls_pipeline.cli.servers import local_servers
from ls_pipeline.cli.servers import server as servers
from ls_pipeline.cli.servers.ports import HOST, WEBHOOKS_HOST
from ls_pipeline.cli.servers.server import Server, ServerFailedError, running
from ls_pipeline.domain.errors import PipelineError

pytestmark = pytest.mark.server

ANSWERING = [sys.executable, "-m", "http.server", "{port}", "--bind", HOST]

REPORTING = """
import http.server, json, os, sys
class Reporting(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Reporting).serve_forever()
"""

STUBBORN = """
import http.server, signal, subprocess, sys, time
if sys.argv[1] == "child":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
subprocess.Popen([sys.executable, __file__, "child"])
address = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""

DEFINITIONS = """
import dagster as dg

@dg.op
def nothing(): ...

@dg.job
def idle(): nothing()

@dg.sensor(job=idle)
def never(): return dg.SkipReason("never")

defs = dg.Definitions(jobs=[idle], sensors=[never])
"""


@pytest.fixture
def server(tmp_path):
    """Return a function that makes a server, which is stopped after the test."""
    made = []

    def server(command, **more):
        name = f"server {len(made)}"
        made.append(Server(name, command, tmp_path / f"{name}.log", **more))
        return made[-1]

    yield server
    for each in made:
        each.stop()


@pytest.fixture
def stubborn(tmp_path):
    """Return the command of a server whose child ignores SIGTERM."""
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    return [sys.executable, str(script), "{port}"]


@pytest.fixture(scope="module")
def dagster(tmp_path_factory):
    place = tmp_path_factory.mktemp("dagster")
    (place / "tiny_definitions.py").write_text(DEFINITIONS)
    environment = {"DAGSTER_HOME": str(place), "PYTHONPATH": str(place)}
    server = local_servers.dagster_server(place, environment, "tiny_definitions")
    with running([server]):
        yield server


def starting(command, log, patience=60):
    """Return a program that starts a server, prints a line, and waits for one."""
    return (
        "from pathlib import Path; from ls_pipeline.cli.servers.server import Server\n"
        f"server = Server('other', {command!r}, Path({str(log)!r}), patience={patience})\n"
        "server.start(); print('up', flush=True); input(); server.stop()"
    )


def listens(port, host=HOST):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def processes():
    """Return the parent of each running process."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ps:
        rows = [line.split() for line in ps.stdout]
    running = {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}
    return {pid: parent for pid, parent in running.items() if pid != ps.pid}


def below(root):
    """Return all descendants of a process."""
    parents = processes()
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree - {root}


def labeling(server):
    """Return a client of Label Studio."""
    token = server.client_environment["LABEL_STUDIO_API_KEY"]
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Token {token}"})


def whoami(server):
    with labeling(server) as client:
        return client.get("/api/current-user/whoami").json()["email"]


def health(server):
    """Return whether each required daemon of Dagster is healthy."""
    status = "daemonType required healthy"
    query = f"{{ instance {{ daemonHealth {{ allDaemonStatuses {{ {status} }} }} }} }}"
    answer = httpx.post(f"{server.url}/graphql", json={"query": query}).json()
    daemons = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return {each["daemonType"]: each["healthy"] for each in daemons if each["required"]}


# One server


def test_started_server_answers(server):
    started = server(ANSWERING)
    started.start()

    assert listens(started.port)


def test_server_gets_no_stray_variable(server, environment):
    environment.setenv("USERNAME", "stray")
    telling = server([sys.executable, "-c", REPORTING, "{port}"], environment={"OURS": "1"})
    telling.start()
    with urllib.request.urlopen(telling.url) as answer:  # noqa: S310
        variables = json.load(answer)

    assert ("USERNAME" in variables, variables["OURS"]) == (False, "1")


def test_server_is_found_without_the_environments_proxy(tmp_path, environment):
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    program = starting(ANSWERING, tmp_path / "log", patience=5)
    done = subprocess.run([sys.executable, "-c", program], input=b"\n", check=False)

    assert done.returncode == 0


def test_stopped_server_leaves_no_process(server, stubborn):
    before = below(os.getpid())
    started = server(stubborn)
    started.start()
    during = below(os.getpid()) - before
    started.stop()

    assert (len(during), during & processes().keys()) == (3, set())


def test_server_can_start_again_where_it_was(server):
    again = server(ANSWERING)
    again.start()
    again.stop()
    again.start()

    assert listens(again.port)


def test_server_ends_when_its_parent_is_killed(tmp_path, stubborn):
    program = starting(stubborn, tmp_path / "log")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        parent.stdout.readline()
        orphans = below(parent.pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while orphans & processes().keys() and time.monotonic() < deadline:
        time.sleep(0.1)

    assert (len(orphans), orphans & processes().keys()) == (3, set())


def test_server_that_ends_is_reported_with_its_name_its_last_words_and_its_log(server):
    failing = server([sys.executable, "-c", "raise SystemExit('no disk left')"])
    with pytest.raises(ServerFailedError) as failure:
        failing.start()

    message = str(failure.value)
    assert all(part in message for part in (failing.name, "no disk left", str(failing.log)))


def test_large_log_is_renamed(server, monkeypatch):
    monkeypatch.setattr(servers, "LARGEST_LOG", 10)
    started = server(ANSWERING)
    started.log.write_text("x" * 20)
    started.start()

    assert started.log.with_name(f"{started.log.name}.1").read_text() == "x" * 20
    assert "xx" not in started.log.read_text()


def test_server_that_never_answers_is_reported_and_stopped(server):
    before = below(os.getpid())
    hanging = server([sys.executable, "-c", "import time; time.sleep(600)"], patience=1)
    with pytest.raises(ServerFailedError, match="does not answer after 1 s"):
        hanging.start()

    assert below(os.getpid()) <= before


def test_last_words_of_a_server_that_hangs_are_in_its_log(server):
    words = "import time; print('waiting for the moon'); time.sleep(600)"
    hanging = server([sys.executable, "-c", words], patience=2)

    with pytest.raises(ServerFailedError, match="waiting for the moon"):
        hanging.start()


def test_server_whose_port_is_taken_is_refused_though_a_stranger_answers(server):
    stranger = server(ANSWERING)
    stranger.start()
    late = server(ANSWERING, port=stranger.port)

    with pytest.raises(ServerFailedError, match=f"port {stranger.port}"):
        late.start()


def test_missing_extra_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "moto", None)

    with pytest.raises(PipelineError, match=r"pip install 'ls-pipeline\[demo\]'"):
        local_servers.s3_server(tmp_path)


# Several servers


def test_running_reports_each_state_of_each_server(server):
    reported = []
    both = [server(ANSWERING), server(ANSWERING)]
    with running(both, lambda server, state: reported.append((server.name, state))):
        pass

    states = {each.name: [state for name, state in reported if name == each.name] for each in both}
    assert list(states.values()) == [["starting", "ready", "stopped"]] * 2


def test_running_none_is_fine():
    with running([]):
        pass


def test_running_stops_all_on_ctrl_c(server):
    before = below(os.getpid())
    with pytest.raises(KeyboardInterrupt), running([server(ANSWERING), server(ANSWERING)]):
        raise KeyboardInterrupt

    assert below(os.getpid()) <= before


@pytest.mark.parametrize("moment", ["starting", "ready"])
def test_running_stops_all_on_ctrl_c_while_they_start(server, moment):
    def interrupt(server, state):
        if (server, state) == (both[1], moment):
            raise KeyboardInterrupt

    before = below(os.getpid())
    both = [server(ANSWERING), server(ANSWERING)]
    with pytest.raises(KeyboardInterrupt), running(both, interrupt):
        pass

    assert below(os.getpid()) <= before


def test_running_reports_a_failure_without_waiting_for_the_slow(server):
    slow = server([sys.executable, "-c", "import time; time.sleep(600)"], patience=600)
    failing = server([sys.executable, "-c", "raise SystemExit('no disk left')"])
    begin = time.monotonic()
    with pytest.raises(ServerFailedError, match="no disk left"), running([slow, failing]):
        pass

    assert time.monotonic() - begin < 30


# The four


@pytest.mark.parametrize("name", ["s3_server", "gcs_server", "label_studio_server", "dagster"])
def test_server_listens_on_loopback_alone(request, name):
    port = request.getfixturevalue(name).port

    # A server on every address answers on 127.0.0.2 as well.
    assert (listens(port), listens(port, "127.0.0.2")) == (True, False)


def test_label_studio_on_the_same_home_keeps_its_token(tmp_path):
    first, second = (
        local_servers.label_studio_server(tmp_path, tmp_path, {}).clients["LABEL_STUDIO_API_KEY"]
        for _ in range(2)
    )

    assert first == second


def test_label_studio_knows_its_user_after_a_restart(label_studio_server):
    first = whoami(label_studio_server)
    label_studio_server.stop()
    label_studio_server.start()

    assert (first, whoami(label_studio_server)) == (local_servers.USERNAME, local_servers.USERNAME)


def test_label_studio_links_lead_to_itself(s3_server, label_studio_server):
    httpx.put(f"{s3_server.url}/links")
    with labeling(label_studio_server) as client:
        config = '<View><Image name="i" value="$image"/></View>'
        made = client.post("/api/projects", json={"title": "Links", "label_config": config})
        project = made.json()["id"]
        storage = {"project": project, "bucket": "links", "use_blob_urls": True}
        client.post("/api/storages/s3", json=storage)
        client.post(f"/api/projects/{project}/import", json=[{"image": "s3://links/a.png"}])
        (task,) = client.get("/api/tasks", params={"project": project}).json()["tasks"]
        link = client.get(f"/api/tasks/{task['id']}").json()["data"]["image"]

    assert link.startswith(label_studio_server.url)


def test_dagster_is_ready_when_every_daemon_is(dagster):
    daemons = health(dagster)

    assert daemons["SENSOR"]
    assert all(daemons.values())


def test_dagster_with_the_daemon_of_an_earlier_one_is_not_ready(server, dagster):
    dagster.stop()
    webserver = [sys.executable, "-m", "dagster_webserver", "-m", "tiny_definitions"]
    alone = server(
        [*webserver, "-h", HOST, "-p", "{port}"],
        environment=dagster.environment,
        is_up=dagster.is_up,
        patience=15,
    )
    with pytest.raises(ServerFailedError, match="does not answer"):
        alone.start()
    dagster.start()

    assert "Serving dagster-webserver" in alone.log.read_text()


def test_stopped_dagster_leaves_no_process(dagster):
    before = below(os.getpid())
    dagster.stop()
    during = before - below(os.getpid())
    left = during & processes().keys()
    dagster.start()

    assert (len(during) > 3, left) == (True, set())


def test_label_studio_may_call_one_more_internal_address():
    folder = Path(find_spec("label_studio").submodule_search_locations[0])
    code = (folder / "core/utils/io.py").read_text()
    (own,) = re.findall(r"default_banned_subnets = (\[.*?\])", code, re.DOTALL)
    banned = [
        ip_network(each) for each in local_servers.banned_networks_except(WEBHOOKS_HOST).split(",")
    ]
    around = [ip_address(WEBHOOKS_HOST) + by for by in (-1, 0, 1)]

    assert tuple(ast.literal_eval(own)) == local_servers.BANNED_NETWORKS
    assert {*map(ip_network, local_servers.BANNED_NETWORKS)} - {*banned} == {local_servers.LOOPBACK}
    assert [any(address in network for network in banned) for address in around] == [
        True,
        False,
        True,
    ]
    assert any(ip_address(HOST) in network for network in banned)

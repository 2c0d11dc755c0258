"""The files of deploy/, as far as they can be tested without a container engine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
import yaml

from ls_pipeline.cli.context import DAGSTER_YAML
from ls_pipeline.cli.demo import samples
from ls_pipeline.cli.servers.local_servers import BANNED_NETWORKS, daemons_are_healthy
from ls_pipeline.cli.servers.ports import HOST
from ls_pipeline.cli.servers.server import Server, running
from ls_pipeline.resources.environment import database_url
from ls_pipeline.resources.labeling_app import SECRET_HEADER
from ls_pipeline.resources.ledger.ledger import Ledger

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
COMPOSE_FILES = ["compose.yaml", "celery/compose.yaml", "webhooks/compose.yaml"]
WITH_CELERY = yaml.safe_load((DEPLOY / "celery" / "compose.yaml").read_text())["services"]
WITH_WEBHOOKS = yaml.safe_load((DEPLOY / "webhooks" / "compose.yaml").read_text())["services"]
VARIABLE = r"\$\{(\w+)(?::[?-][^}]*)?\}"


def lines(name, pattern):
    """Return the matches of a pattern in the lines of a file."""
    return re.findall(pattern, (DEPLOY / name).read_text(), re.MULTILINE)


def tool(*words):
    program = Path(sys.executable).with_name(words[0])
    process = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_file_follows_the_specification(name):
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


def test_dockerfile_passes_hadolint():
    tool("hadolint", DEPLOY / "Dockerfile")


def test_docker_context_contains_all_copied_files():
    copied = lines("Dockerfile", r"^COPY (?:--\S+ )*(.+) \S+$")
    in_context = lines("Dockerfile.dockerignore", r"^!(.+)$")

    assert sorted(" ".join(copied).split()) == sorted(in_context)
    assert all((DEPLOY.parent / name).exists() for name in in_context)


def test_installations_are_of_the_tested_versions():
    versions = (DEPLOY.parent / "constraints.txt").read_text().splitlines()
    makefile = (DEPLOY.parent / "Makefile").read_text()

    assert [line for line in versions if not re.fullmatch(r"#.*|[\w.-]+==[\w.+!]+", line)] == []
    assert lines("Dockerfile", r"^RUN pip install (?!.* -c constraints\.txt )") == []
    assert makefile.count("install --disable-pip-version-check --quiet -c constraints.txt") == 1


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_variable_is_in_the_example_file(name):
    used = lines(name, VARIABLE)
    listed = lines(".env.example", r"^(?:# )?(\w+)=")

    assert set(used) <= set(listed)


def test_ports_are_open_only_on_loopback():
    ports = [port for definition in SERVICES.values() for port in definition.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_dagster_settings_extend_those_of_a_home():
    deployed = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    home = yaml.safe_load(DAGSTER_YAML)

    deployed["run_coordinator"]["config"].pop("max_concurrent_runs")
    assert {name: deployed[name] for name in home} == home
    assert deployed.keys() - home.keys() == {"storage"}


def test_celery_dagster_settings_extend_the_usual():
    usual = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    with_celery = yaml.safe_load((DEPLOY / "celery" / "dagster.yaml").read_text())
    for settings in (usual, with_celery):
        settings["run_coordinator"]["config"].pop("max_concurrent_runs")

    assert {name: with_celery[name] for name in usual} == usual
    assert with_celery.keys() - usual.keys() == {"run_launcher", "compute_logs"}


def test_celery_workers_get_the_code_servers_environment():
    code = SERVICES["code"]["environment"]
    only_code_server = {"LS_PIPELINE_CODE_HOST", "LS_PIPELINE_CODE_PORT"}
    plain = {name: re.sub(r":\?[^}]*", "", code[name]) for name in code.keys() - only_code_server}
    celery = WITH_CELERY["code"]["environment"]

    assert WITH_CELERY["worker"]["environment"] == {**plain, **celery}
    assert WITH_CELERY["daemon"]["environment"] == WITH_CELERY["webserver"]["environment"] == celery


@pytest.fixture
def deployment(stage, live_environment, postgresql_server, tmp_path):
    """Run our services as the compose file defines them, on databases of their own."""
    home = tmp_path / "dagster"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        (home / name).write_text((DEPLOY / name).read_text())
    variables = {"POSTGRES_PASSWORD": postgresql_server.password}
    environment = {
        name: re.sub(VARIABLE, lambda match: variables[match[1]], value)
        for name, value in SERVICES["code"]["environment"].items()
    }
    database = f"labeling:{postgresql_server.password}@postgres:5432/ledger"
    assert environment["LS_PIPELINE_DATABASE_URL"].endswith(database)
    code = service("code", tmp_path, home)
    code.is_up = lambda server: health_check(server, environment)
    environment |= {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_HOST": HOST,
        "DAGSTER_POSTGRES_PORT": str(postgresql_server.server.port),
        "LS_PIPELINE_DATABASE_URL": postgresql_server.url("ledger").replace(
            "//ledger:", "//labeling:"
        ),
        "LS_PIPELINE_CODE_HOST": HOST,
        "LS_PIPELINE_CODE_PORT": str(code.port),
        "LS_PIPELINE_HOME": str(tmp_path / "home"),
        "LS_PIPELINE_POLL_SECONDS": "2",
        "DO_NOT_TRACK": "1",
    }
    environment = {**os.environ, **environment, "LABEL_STUDIO_URL": os.environ["LABEL_STUDIO_URL"]}
    live_environment.setenv("LS_PIPELINE_DATABASE_URL", environment["LS_PIPELINE_DATABASE_URL"])
    daemon = replace(service("daemon", tmp_path, home), is_up=lambda _: True)
    webserver = replace(
        service("webserver", tmp_path, home), is_up=daemons_are_healthy, patience=180
    )
    for server in (code, daemon, webserver):
        server.environment = environment
    statements = lines("databases.sql", r"^(CREATE .*);$")
    databases = lines("databases.sql", r"^CREATE DATABASE (\w+) OWNER labeling ")
    try:
        password = f"'{postgresql_server.password}'"
        postgresql_server.sql(*(each.replace(":'password'", password) for each in statements))
        with running([code]), running([daemon, webserver]):
            yield stage
    finally:
        drops = [f"DROP DATABASE IF EXISTS {database} WITH (FORCE)" for database in databases]
        postgresql_server.sql(*drops, "DROP ROLE IF EXISTS labeling")


def service(name, folder, home, services=SERVICES):
    """Return a server that runs a service's command, at a free port on loopback."""
    program, *words = shlex.split(services[name]["command"])
    local = {"0.0.0.0": HOST, **dict.fromkeys(("4000", "3000", "3001"), "{port}")}  # noqa: S104 - it is replaced
    words = [local.get(word, word) for word in words]
    words = [str(home / word) if word == "workspace.yaml" else word for word in words]
    return Server(name, [str(Path(sys.executable).with_name(program)), *words], folder / name)


def health_check(server, environment, services=SERVICES):
    """Run the health check of the compose file; return whether it passes."""
    _cmd, program, *words = services[server.name]["healthcheck"]["test"]
    words = [re.sub("4000|3001", str(server.port), word) for word in words]
    program = Path(sys.executable).with_name(program)
    process = subprocess.run([program, *words], capture_output=True, check=False)
    return process.returncode == 0


@pytest.mark.server
def test_object_becomes_a_task_across_separate_services(deployment):
    source = deployment.s3("in")
    for key, body in samples.texts(2):
        source.put(key, body, "application/json")
    deployment.add("reviews", samples.TEXT_CONFIG, source, None)
    ledger = Ledger(database_url())
    deadline = time.monotonic() + 120

    while ledger.connection_ledger("reviews").objects.count_tasks() < 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)

    assert len(deployment.tasks("reviews")) == 2


@pytest.mark.server
def test_webhook_receiver_is_healthy_and_requires_the_secret(tmp_path, environment):
    variables = {"LS_PIPELINE_WEBHOOK_SECRET": "our-secret", "LS_PIPELINE_HOME": str(tmp_path)}
    receiver = service("webhooks", tmp_path, tmp_path, WITH_WEBHOOKS)
    receiver.environment = {**os.environ, **variables}
    receiver.is_up = lambda server: health_check(server, variables, WITH_WEBHOOKS)
    with running([receiver]):
        statuses = [
            httpx.post(
                f"{receiver.url}/connections/reviews",
                json={"action": "ANNOTATION_CREATED"},
                headers={SECRET_HEADER: secret},
            ).status_code
            for secret in ("wrong", "our-secret")
        ]

    assert statuses == [401, 204]


def test_label_studio_may_call_only_the_receivers_network():
    variables = WITH_WEBHOOKS["label-studio"]["environment"]
    banned = [ip_network(name) for name in variables["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]

    def may_call(address):
        return not any(ip_address(address) in network for network in banned)

    assert variables["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert {*map(ip_network, BANNED_NETWORKS)} - {*banned} == {ip_network("172.16.0.0/12")}
    assert may_call("172.18.0.5")
    assert not any(
        map(may_call, ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1", "::1"))
    )

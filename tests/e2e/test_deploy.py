"""What deploy/ says, as far as it can be run without an engine for containers."""

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
    """Find what a pattern finds in the lines of a file."""
    return re.findall(pattern, (DEPLOY / name).read_text(), re.MULTILINE)


def tool(*words):
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_file_keeps_the_specification(name):
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


def test_dockerfile_is_as_hadolint_wants_it():
    tool("hadolint", DEPLOY / "Dockerfile")


def test_image_gets_all_that_it_copies():
    copied = lines("Dockerfile", r"^COPY (?:--\S+ )*(.+) \S+$")
    sent = lines("Dockerfile.dockerignore", r"^!(.+)$")

    assert sorted(" ".join(copied).split()) == sorted(sent)
    assert all((DEPLOY.parent / name).exists() for name in sent)


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_variable_is_in_the_example(name):
    wanted = lines(name, VARIABLE)
    told = lines(".env.example", r"^(?:# )?(\w+)=")

    assert set(wanted) <= set(told)


def test_ports_are_open_on_loopback_alone():
    ports = [port for one in SERVICES.values() for port in one.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_settings_of_dagster_are_those_of_a_home_and_more():
    deployed = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    home = yaml.safe_load(DAGSTER_YAML)

    deployed["run_coordinator"]["config"].pop("max_concurrent_runs")
    assert {name: deployed[name] for name in home} == home
    assert deployed.keys() - home.keys() == {"storage"}


def test_settings_of_dagster_with_celery_are_the_others_and_what_celery_needs():
    usual = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    with_celery = yaml.safe_load((DEPLOY / "celery" / "dagster.yaml").read_text())
    for settings in (usual, with_celery):
        settings["run_coordinator"]["config"].pop("max_concurrent_runs")
    monitoring = with_celery["run_monitoring"]

    assert monitoring.items() > usual.pop("run_monitoring").items()
    assert {name: with_celery[name] for name in usual} == usual
    assert with_celery.keys() - usual.keys() == {"run_launcher", "run_monitoring", "compute_logs"}


def test_workers_know_what_the_code_server_knows_and_celery():
    code = SERVICES["code"]["environment"]
    elsewhere = {"LS_PIPELINE_CODE_HOST", "LS_PIPELINE_CODE_PORT"}
    plain = {name: re.sub(r":\?[^}]*", "", code[name]) for name in code.keys() - elsewhere}
    celery = WITH_CELERY["code"]["environment"]

    assert WITH_CELERY["worker"]["environment"] == {**plain, **celery}
    assert WITH_CELERY["daemon"]["environment"] == WITH_CELERY["webserver"]["environment"] == celery


@pytest.fixture
def deployment(stage, world, postgresql_server, tmp_path):
    """Run the services that are ours, each as the compose file says, on databases of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        (home / name).write_text((DEPLOY / name).read_text())
    chosen = {"POSTGRES_PASSWORD": postgresql_server.password}
    environment = {
        name: re.sub(VARIABLE, lambda found: chosen[found[1]], value)
        for name, value in SERVICES["code"]["environment"].items()
    }
    database = f"postgres:{postgresql_server.password}@postgres:5432/ledger"
    assert environment["LS_PIPELINE_DATABASE_URL"].endswith(database)
    code = service("code", tmp_path, home)
    code.is_up = lambda one: health_check(one, environment)
    environment |= {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_HOST": HOST,
        "DAGSTER_POSTGRES_PORT": str(postgresql_server.server.port),
        "DAGSTER_POSTGRES_USER": "ledger",
        "LS_PIPELINE_DATABASE_URL": postgresql_server.url("ledger"),
        "LS_PIPELINE_CODE_HOST": HOST,
        "LS_PIPELINE_CODE_PORT": str(code.port),
        "LS_PIPELINE_HOME": str(tmp_path / "home"),
        "LS_PIPELINE_POLL_SECONDS": "2",
        "DO_NOT_TRACK": "1",
    }
    environment = {**os.environ, **environment, "LABEL_STUDIO_URL": os.environ["LABEL_STUDIO_URL"]}
    world.setenv("LS_PIPELINE_DATABASE_URL", environment["LS_PIPELINE_DATABASE_URL"])
    daemon = replace(service("daemon", tmp_path, home), is_up=lambda _: True)
    webserver = replace(
        service("webserver", tmp_path, home), is_up=daemons_are_healthy, patience=180
    )
    for one in (code, daemon, webserver):
        one.environment = environment
    databases = lines("databases.sql", r"^CREATE DATABASE (\w+);$")
    try:
        postgresql_server.sql(*(f"CREATE DATABASE {name}" for name in databases))
        with running([code]), running([daemon, webserver]):
            yield stage
    finally:
        postgresql_server.sql(*(f"DROP DATABASE IF EXISTS {one} WITH (FORCE)" for one in databases))


def service(name, folder, home, services=SERVICES):
    """Give a service's command, at a free port on loopback."""
    program, *words = shlex.split(services[name]["command"])
    here = {"0.0.0.0": HOST, **dict.fromkeys(("4000", "3000", "3001"), "{port}")}  # noqa: S104 - in its place
    words = [here.get(word, word) for word in words]
    words = [str(home / word) if word == "workspace.yaml" else word for word in words]
    return Server(name, [str(Path(sys.executable).with_name(program)), *words], folder / name)


def health_check(server, environment, services=SERVICES):
    """Ask as the compose file does."""
    _cmd, program, *words = services[server.name]["healthcheck"]["test"]
    words = [re.sub("4000|3001", str(server.port), word) for word in words]
    program = Path(sys.executable).with_name(program)
    done = subprocess.run([program, *words], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.server
def test_object_becomes_a_task_by_services_that_share_nothing_but_databases(deployment):
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
def test_receiver_of_webhooks_is_healthy_and_asks_for_the_secret(tmp_path, environment):
    told = {"LS_PIPELINE_WEBHOOK_SECRET": "our-secret", "LS_PIPELINE_HOME": str(tmp_path)}
    receiver = service("webhooks", tmp_path, tmp_path, WITH_WEBHOOKS)
    receiver.environment = {**os.environ, **told}
    receiver.is_up = lambda one: health_check(one, told, WITH_WEBHOOKS)
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


def test_label_studio_may_call_the_receiver_and_no_other_inner_network():
    told = WITH_WEBHOOKS["label-studio"]["environment"]
    banned = [ip_network(one) for one in told["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]

    def may_call(address):
        return not any(ip_address(address) in network for network in banned)

    assert told["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert {*map(ip_network, BANNED_NETWORKS)} - {*banned} == {ip_network("172.16.0.0/12")}
    assert may_call("172.18.0.5")
    assert not any(
        map(may_call, ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.0.1", "::1"))
    )

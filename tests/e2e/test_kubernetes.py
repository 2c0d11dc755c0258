"""What deploy/kubernetes makes Dagster ask of a cluster, which here only writes it down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from ls_pipeline.cli.main import main
from ls_pipeline.cli.servers.webhook_receiver import HEALTH_PATH
from ls_pipeline.definitions import defs
from tests.contracts.conftest import Answer, serving

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
CODE = VALUES["dagster-user-deployments"]["deployments"][0]
IMAGE = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
RELEASE, NAMESPACE = "dagster", "labeling"
NEWEST = kubernetes_validate.latest_version()
SNAKE = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "podTemplateSpecMetadata": "pod_template_spec_metadata",
}


def manifests(name="secrets.yaml"):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def launcher(kubeconfig):
    """Give the run launcher that the chart makes of our values."""
    ours = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    config = {
        "job_namespace": NAMESPACE,
        "image_pull_policy": ours["imagePullPolicy"],
        "service_account_name": RELEASE,
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": f"{RELEASE}-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "run_k8s_config": {SNAKE[name]: value for name, value in ours["runK8sConfig"].items()},
    }
    assert ours.keys() == {"imagePullPolicy", "runK8sConfig"}
    here = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    return {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {**config, **here}}


def container_context():
    """Give what the chart tells the code server to put into each run."""
    return {
        "k8s": {
            "image_pull_policy": CODE["image"]["pullPolicy"],
            "env_config_maps": [f"{RELEASE}-dagster-user-deployments-{CODE['name']}-user-env"],
            "env_secrets": [one["name"] for one in CODE["envSecrets"]],
            "resources": CODE["resources"],
            "namespace": NAMESPACE,
            "service_account_name": f"{RELEASE}-dagster-user-deployments-user-deployments",
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }


@pytest.fixture
def api_server():
    """Serve as a cluster's API server does: it keeps what it is asked to make."""
    with serving() as server:
        jobs = []

        def answer(request):
            if request.method == "POST":
                jobs.append(json.loads(request.body))
            body = json.dumps({**jobs[-1], "status": server.status})
            return Answer(body.encode(), headers={"content-type": "application/json"})

        server.answer, server.jobs, server.status = answer, jobs, {}
        yield server


@pytest.fixture
def instance(api_server, tmp_path):
    """Give Dagster's instance, with the launcher of the values."""
    here = {"name": "here", "cluster": {"server": api_server.url}}
    context = {"name": "here", "context": {"cluster": "here", "user": "us"}}
    kubeconfig = tmp_path / "kubeconfig"
    told = {"clusters": [here], "contexts": [context], "users": [{"name": "us", "user": {}}]}
    kubeconfig.write_text(yaml.safe_dump({"current-context": "here", **told}))
    settings = {"run_launcher": launcher(kubeconfig), "telemetry": {"enabled": False}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def launch(instance):
    """Start a run as the daemon does; give it."""
    code = ModuleCodePointer("ls_pipeline.definitions", "defs", None)
    place = RepositoryPythonOrigin(
        sys.executable, code, IMAGE, container_context=container_context()
    )
    run = instance.create_run_for_job(
        defs().resolve_job_def("load_tasks"),
        tags={"dagster/partition": "reviews"},
        job_code_origin=JobPythonOrigin("load_tasks", place),
    )
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return run


@pytest.mark.parametrize("name", ["secrets.yaml", "webhooks.yaml", "prune.yaml"])
def test_manifests_keep_the_schema(name):
    for one in manifests(name):
        kubernetes_validate.validate(one, NEWEST, strict=True)


def test_receiver_of_webhooks_has_the_image_and_the_secret_of_the_values():
    deployment, service, policy = manifests("webhooks.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    probes = [container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")]
    (opened,) = policy["spec"]["ingress"][0]["ports"]

    assert container["image"] == IMAGE
    assert [one["secretRef"] for one in container["envFrom"]] == CODE["envSecrets"]
    assert probes == [{"path": HEALTH_PATH, "port": port["containerPort"]}] * 2
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert service["spec"]["ports"] == [{"port": port["containerPort"]}] == [opened]
    assert policy["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]


def test_pruning_is_done_on_the_charts_dagster():
    (cron,) = manifests("prune.yaml")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    told = {one["name"]: one for one in container["env"]}
    (mount,) = container["volumeMounts"]
    (secret,) = (one for one in manifests() if one["metadata"]["name"] == "dagster-postgresql")
    known = told["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]

    assert container["image"] == IMAGE
    assert volume["configMap"]["name"] == f"{RELEASE}-instance"
    assert mount["mountPath"] == f"{told['DAGSTER_HOME']['value']}/dagster.yaml"
    assert known["name"] == VALUES["global"]["postgresqlSecretName"]
    assert known["key"] in secret["stringData"]
    assert main.make_context("ls-pipeline", container["args"][1:], resilient_parsing=False)


def test_secrets_hold_no_secret():
    kept = {name: text for one in manifests() for name, text in one.get("stringData", {}).items()}

    assert kept["LABEL_STUDIO_API_KEY"] == kept["postgresql-password"] == ""
    assert ":PASSWORD@" in kept["LS_PIPELINE_DATABASE_URL"]


def test_run_is_a_job_that_a_cluster_takes(instance, api_server):
    launch(instance)
    (job,) = api_server.jobs

    assert api_server.requests[-1].path == f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    assert kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", **job}, NEWEST)


def test_run_gets_image_secret_account_and_memory_of_the_values(instance, api_server):
    run = launch(instance)
    pod = api_server.jobs[0]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    secrets = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]

    assert container["image"] == IMAGE
    assert container["args"][1:5] == ["-m", "dagster", "api", "execute_run"]
    assert set(secrets) == {"ls-pipeline"} <= {one["metadata"]["name"] for one in manifests()}
    assert container["resources"] == CODE["resources"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["spec"]["securityContext"]["runAsUser"] == 10001
    assert pod["spec"]["serviceAccountName"] == "dagster-dagster-user-deployments-user-deployments"
    assert pod["metadata"]["labels"]["dagster/run-id"] == run.run_id


def test_node_that_died_is_a_failed_run(instance, api_server):
    run = launch(instance)
    api_server.status = {"failed": 1}

    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status is WorkerStatus.FAILED

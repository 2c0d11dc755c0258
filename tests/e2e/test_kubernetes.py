"""The manifests of deploy/kubernetes, and the jobs that Dagster creates with its values."""

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
    """Return the run launcher that the chart configures from our values."""
    values = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    config = {
        "job_namespace": NAMESPACE,
        "image_pull_policy": values["imagePullPolicy"],
        "service_account_name": RELEASE,
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": f"{RELEASE}-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "run_k8s_config": {SNAKE[name]: value for name, value in values["runK8sConfig"].items()},
    }
    assert values.keys() == {"imagePullPolicy", "runK8sConfig"}
    cluster = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    return {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {**config, **cluster}}


def container_context():
    """Return what the chart configures the code server to add to each run."""
    return {
        "k8s": {
            "image_pull_policy": CODE["image"]["pullPolicy"],
            "env_config_maps": [f"{RELEASE}-dagster-user-deployments-{CODE['name']}-user-env"],
            "env_secrets": [secret["name"] for secret in CODE["envSecrets"]],
            "resources": CODE["resources"],
            "namespace": NAMESPACE,
            "service_account_name": f"{RELEASE}-dagster-user-deployments-user-deployments",
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }


@pytest.fixture
def api_server():
    """Return a stand-in for a cluster's API server, which only records the jobs."""
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
    """Return a Dagster instance with the launcher of the values."""
    cluster = {"name": "here", "cluster": {"server": api_server.url}}
    context = {"name": "here", "context": {"cluster": "here", "user": "us"}}
    kubeconfig = tmp_path / "kubeconfig"
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "us", "user": {}}]}
    kubeconfig.write_text(yaml.safe_dump({"current-context": "here", **config}))
    settings = {"run_launcher": launcher(kubeconfig), "telemetry": {"enabled": False}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def launch(instance):
    """Launch a run as the daemon does; return it."""
    code = ModuleCodePointer("ls_pipeline.definitions", "defs", None)
    origin = RepositoryPythonOrigin(
        sys.executable, code, IMAGE, container_context=container_context()
    )
    run = instance.create_run_for_job(
        defs().resolve_job_def("load_tasks"),
        tags={"dagster/partition": "reviews"},
        job_code_origin=JobPythonOrigin("load_tasks", origin),
    )
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return run


@pytest.mark.parametrize("name", ["secrets.yaml", "webhooks.yaml", "prune.yaml"])
def test_manifests_follow_the_kubernetes_schema(name):
    for manifest in manifests(name):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_webhook_receiver_uses_image_and_secret_of_the_values():
    deployment, service, policy = manifests("webhooks.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    probes = [container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")]
    (open_port,) = policy["spec"]["ingress"][0]["ports"]

    assert container["image"] == IMAGE
    assert [source["secretRef"] for source in container["envFrom"]] == CODE["envSecrets"]
    assert probes == [{"path": HEALTH_PATH, "port": port["containerPort"]}] * 2
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert service["spec"]["ports"] == [{"port": port["containerPort"]}] == [open_port]
    assert policy["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]


def test_prune_job_uses_the_dagster_of_the_chart():
    (cron,) = manifests("prune.yaml")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    variables = {variable["name"]: variable for variable in container["env"]}
    (mount,) = container["volumeMounts"]
    (secret,) = (
        manifest for manifest in manifests() if manifest["metadata"]["name"] == "dagster-postgresql"
    )
    reference = variables["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]

    assert container["image"] == IMAGE
    assert volume["configMap"]["name"] == f"{RELEASE}-instance"
    assert mount["mountPath"] == f"{variables['DAGSTER_HOME']['value']}/dagster.yaml"
    assert reference["name"] == VALUES["global"]["postgresqlSecretName"]
    assert reference["key"] in secret["stringData"]
    assert main.make_context("ls-pipeline", container["args"][1:], resilient_parsing=False)


def test_secrets_manifest_contains_only_placeholders():
    secrets = {
        name: text
        for manifest in manifests()
        for name, text in manifest.get("stringData", {}).items()
    }

    assert secrets["LABEL_STUDIO_API_KEY"] == secrets["postgresql-password"] == ""
    assert ":PASSWORD@" in secrets["LS_PIPELINE_DATABASE_URL"]


def test_run_is_a_valid_kubernetes_job(instance, api_server):
    launch(instance)
    (job,) = api_server.jobs

    assert api_server.requests[-1].path == f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    assert kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", **job}, NEWEST)


def test_run_uses_image_secret_and_resources_of_the_values(instance, api_server):
    run = launch(instance)
    pod = api_server.jobs[0]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    secrets = [
        source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source
    ]

    assert container["image"] == IMAGE
    assert container["args"][1:5] == ["-m", "dagster", "api", "execute_run"]
    assert (
        set(secrets)
        == {"ls-pipeline"}
        <= {manifest["metadata"]["name"] for manifest in manifests()}
    )
    assert container["resources"] == CODE["resources"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["spec"]["securityContext"]["runAsUser"] == 10001
    assert pod["spec"]["serviceAccountName"] == "dagster-dagster-user-deployments-user-deployments"
    assert pod["metadata"]["labels"]["dagster/run-id"] == run.run_id


def test_run_on_a_dead_node_fails(instance, api_server):
    run = launch(instance)
    api_server.status = {"failed": 1}

    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status is WorkerStatus.FAILED

"""Pipelines in another Dagster project, next to its own definitions and to each other."""

from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from ls_pipeline.assets.checks import failing_connections
from ls_pipeline.assets.pipeline import Pipeline
from ls_pipeline.assets.systems import Systems
from ls_pipeline.definitions import defs as standalone
from ls_pipeline.domain.errors import InvalidVariableError
from ls_pipeline.project.build import build_definitions
from ls_pipeline.resources.environment import home
from ls_pipeline.resources.label_studio.app import LabelStudio
from ls_pipeline.resources.ledger.ledger import Ledger
from ls_pipeline.resources.progress import SilentProgress
from ls_pipeline.sensors.objects import objects_tick
from ls_pipeline.settings.declarations import read_declarations
from tests.bench import Bench
from tests.sensors.test_sensors import add_run


@dg.asset
def tasks(s3: dg.ResourceParam[str]):
    assert s3 == "the team's"


@dg.job
def load_tasks():
    pass


@dg.sensor(job=load_tasks)
def completions():
    return dg.SkipReason("nothing")


@dg.asset(partitions_def=dg.DynamicPartitionsDefinition(name="connections"))
def source_settings():
    pass


TEAM = dg.Definitions(
    assets=[tasks, source_settings],
    jobs=[load_tasks],
    sensors=[completions],
    resources={"s3": "the team's", "ledger": "a book"},
    executor=dg.in_process_executor,
    loggers={"console": dg.colored_console_logger},
)


@pytest.fixture
def project(tmp_path):
    """Return a team's definitions with two pipelines."""
    vision = build_definitions(prefix="vision", home=str(tmp_path / "vision"))
    text = build_definitions(
        prefix="text",
        group="language",
        owners=["team:nlp"],
        database_url=f"sqlite:///{tmp_path}/text.db",
        label_studio=LabelStudio(url="http://text.example.com", api_key="secret"),
        s3=S3Resource(region_name="eu-west-3"),
        poll_seconds=11,
        notification_seconds=5,
        automation=False,
    )
    return dg.Definitions.merge(TEAM, vision, text)


def test_two_pipelines_live_next_to_the_teams_own(project, instance):
    dg.Definitions.validate_loadable(project)
    result = project.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey("tasks")], instance=instance
    )

    assert result.success


def names_of(definitions):
    """Return the names of all that a repository has, without the team's own."""
    repository = definitions.get_repository_def()
    partitions = {
        node.partitions_def.name
        for node in repository.asset_graph.asset_nodes
        if node.partitions_def
    }
    return {
        "assets": {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()},
        "jobs": {job.name for job in repository.get_all_jobs() if job.name[0] != "_"},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "resources": set(repository.get_top_level_resources()),
        "partitions": partitions,
    }


@pytest.mark.parametrize("kind", ["assets", "jobs", "sensors", "resources", "partitions"])
def test_every_name_has_the_prefix(kind):
    separator = "/" if kind == "assets" else "_"
    plain = names_of(standalone())[kind]

    assert names_of(build_definitions(prefix="vision"))[kind] == {
        f"vision{separator}{name}" for name in plain
    }


def test_checks_are_on_the_pipelines_assets():
    graph = build_definitions(prefix="vision").get_repository_def().asset_graph
    plain = standalone().get_repository_def().asset_graph.asset_check_keys

    assert {(key.asset_key.path[0], key.name) for key in graph.asset_check_keys} == {
        ("vision", key.name) for key in plain
    }


def test_pipeline_imposes_no_executor_and_no_logger():
    definitions = build_definitions(prefix="vision")

    assert (definitions.executor, definitions.loggers) == (None, None)


def test_arguments_say_group_owners_intervals_and_status(project):
    repository = project.get_repository_def()
    asset = repository.asset_graph.get(dg.AssetKey(["text", "training_data"]))
    sensors = [each for each in repository.sensor_defs if each.name.startswith("text_")]

    assert (asset.group_name, list(asset.owners)) == ("language", ["team:nlp"])
    assert {(each.minimum_interval_seconds, each.default_status.value) for each in sensors} == {
        (11, "STOPPED"),
        (5, "STOPPED"),
    }


def test_work_on_connections_is_in_the_pool():
    repository = build_definitions(prefix="vision", pool="label_studio").get_repository_def()
    pools = {
        node.key.path[-1]: node.assets_def.op.pool
        for node in repository.asset_graph.asset_nodes
        if node.is_materializable
    }

    assert pools == {
        "source_settings": None,
        "target_settings": None,
        **dict.fromkeys(("tasks", "completions", "training_data"), "label_studio"),
    }


DECLARED = {"cats": {"source": {"type": "s3", "path": "pictures", "params": {"prefix": "in"}}}}


def test_tick_applies_declared_connections(instance, empty_ledger):
    declarations = read_declarations(DECLARED, Path(), "team.py")
    pipeline = Pipeline("vision", declarations=declarations, declared_in="team.py")
    context = dg.build_sensor_context(instance=instance)
    objects_tick(context, empty_ledger, "gcs", None, pipeline=pipeline)

    assert empty_ledger.names() == ["cats"]


def test_declaration_that_can_not_be_applied_is_a_failure(instance, tmp_path):
    bench = Bench(f"sqlite:///{tmp_path}/ledger.db", name="cats")
    bench.put("a.json", {"text": "a"})
    bench.load()
    declarations = read_declarations(DECLARED, Path(), "team.py")
    pipeline = Pipeline("vision", declarations=declarations, declared_in="team.py")
    context = dg.build_sensor_context(instance=instance)
    objects_tick(context, bench.ledger, "gcs", None, pipeline=pipeline)
    (row,) = failing_connections(bench.ledger)

    assert (row["connection"], row["what"]) == ("cats", "declaration")
    assert "Its declaration can't be applied" in row["reason"]


def test_ui_says_which_connections_are_declared_and_where():
    definitions = build_definitions(prefix="vision", connections=DECLARED, declared_in="team.py")
    spec = definitions.resolve_asset_graph().get(dg.AssetKey(["vision", "source_settings"]))
    (row,) = spec.metadata["declared_connections"].records

    assert row.data["connection"] == "cats"
    assert "source.params.prefix" in row.data["settings"]
    assert spec.metadata["declared_in"].text == "team.py"


@pytest.mark.parametrize("prefix", ["vision/", "1st", "a-b", "ä"])
def test_prefix_that_no_name_can_have_is_refused(prefix):
    with pytest.raises(ValueError, match=r"prefix .* must have letters"):
        build_definitions(prefix=prefix)


def test_building_creates_no_home():
    build_definitions(prefix="vision").get_repository_def()

    assert not home().exists()


def test_pipeline_in_a_home_of_its_own_has_its_own_ledger(environment, tmp_path):
    environment.setenv("LS_PIPELINE_DATABASE_URL", "sqlite:////shared.db")
    environment.setenv("VISION_HOME", str(tmp_path / "vision"))
    own = Pipeline("vision", home=dg.EnvVar("VISION_HOME")).place

    assert own.database_url == f"sqlite:///{tmp_path}/vision/ledger.db"
    assert Pipeline("text").place.database_url == "sqlite:////shared.db"


@pytest.mark.parametrize(("job", "is_own"), [("load_tasks", False), ("vision_load_tasks", True)])
def test_run_of_another_pipeline_delays_none(instance, tmp_path, job, is_own):
    bench = Bench(f"sqlite:///{tmp_path}/vision/ledger.db")
    bench.put("a.json", {"text": "a"})
    add_run(instance, dg.DagsterRunStatus.STARTED, job)
    context, pipeline = dg.build_sensor_context(instance=instance), Pipeline("vision")
    result = objects_tick(context, bench.ledger, "s3", lambda _: bench.bucket, pipeline=pipeline)

    assert [request.partition_key for request in result.run_requests] == (
        [] if is_own else ["reviews"]
    )
    assert [request.partitions_def_name for request in result.dynamic_partitions_requests] == [
        "vision_connections"
    ]


class InMemory:
    """Replaces `S3Buckets`."""

    def __init__(self, bucket):
        self.bucket = bucket

    def bucket_of(self, _side):
        return self.bucket


def test_run_works_with_the_pipelines_own_ledger(project, instance, tmp_path):
    bench = Bench(f"sqlite:///{tmp_path}/vision/ledger.db")
    bench.put("a.json", {"text": "a"})
    instance.add_dynamic_partitions("vision_connections", ["reviews"])
    job = project.resolve_job_def("vision_load_tasks")
    result = job.execute_in_process(
        instance=instance,
        partition_key="reviews",
        resources={
            "vision_ledger": bench.ledger,
            "vision_s3": InMemory(bench.bucket),
            "vision_gcs": None,
            "vision_label_studio": bench.app,
            "vision_progress": SilentProgress(),
        },
        raise_on_error=True,
    )

    assert result.success
    assert len(bench.tasks) == 1


def test_clients_of_a_teams_resources_are_kept_between_ticks(environment):
    environment.setenv("VISION_URL", "http://vision.example.com")
    resources = build_definitions(
        prefix="vision",
        s3=S3Resource(region_name="eu-west-3"),
        label_studio=LabelStudio(url=dg.EnvVar("VISION_URL"), api_key="secret"),
    ).resources
    needed = {name: resources[name] for name in ("vision_s3", "vision_label_studio")}

    def clients():
        with dg.build_resources(needed) as opened:
            systems = Systems(Pipeline("vision"), opened)
            return systems.s3, systems.label_studio

    (s3, app), (same_s3, same_app) = clients(), clients()

    assert (s3 is same_s3, app is same_app) == (True, True)
    assert (s3.region_name, app.base_url) == ("eu-west-3", "http://vision.example.com")


def test_ledger_is_opened_where_the_home_is(tmp_path):
    definitions = build_definitions(prefix="vision", home=str(tmp_path / "vision"))
    resources = {"vision_ledger": definitions.resources["vision_ledger"]}
    with dg.build_resources(resources) as opened:
        ledger = opened.vision_ledger
        names = ledger.names()

    assert isinstance(ledger, Ledger)
    assert (names, (tmp_path / "vision" / "ledger.db").exists()) == ([], True)


def shared(first, second):
    """Return why two pipelines can't be in one project."""
    pipelines = [build_definitions(prefix=name, **more) for name, more in (first, second)]
    with pytest.raises(dg.DagsterInvalidDefinitionError) as error:
        dg.Definitions.validate_loadable(dg.Definitions.merge(TEAM, *pipelines))
    return str(error.value.__cause__)


def test_pipelines_with_the_default_ledger_are_refused():
    said = shared(("vision", {}), ("text", {}))

    assert said.startswith("The pipelines 'text' and 'vision' have one ledger (LS_PIPELINE_")
    assert said.endswith("give each a home or a database_url of its own.")


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ({"home": "labels"}, {"home": "./labels"}),
        ({"home": dg.EnvVar("HOME_OF_BOTH")}, {"home": dg.EnvVar("HOME_OF_BOTH")}),
        ({"database_url": "postgresql://me:secret@db/ledger"}, {}),
    ],
)
def test_pipelines_with_one_place_are_refused_without_secrets(place, other):
    said = shared(("vision", place), ("text", {**place, **other}))

    assert "'text' and 'vision'" in said
    assert "secret" not in said


def test_schemas_of_one_database_are_ledgers_of_their_own():
    url = "postgresql+psycopg://me:secret@db/ledger?options=-csearch_path="
    pipelines = [
        build_definitions(prefix=name, database_url=url + name) for name in ("vision", "text")
    ]

    dg.Definitions.validate_loadable(dg.Definitions.merge(*pipelines))


def test_place_in_a_variable_that_is_not_set_is_not_the_default():
    with pytest.raises(InvalidVariableError, match="VISION_HOME is not set"):
        _ = Pipeline("vision", home=dg.EnvVar("VISION_HOME")).place


def test_arguments_that_can_not_be_used_are_all_named():
    with pytest.raises(ValueError, match="must be at least 1") as error:
        build_definitions(
            prefix="vision",
            poll_seconds=0,
            notification_seconds=-5,
            webhook_url="nowhere",
            label_studio=LabelStudio(url="labels.example.com", api_key="secret"),
            s3=S3Resource(endpoint_url="not a url"),
            database_url="postgres//me:secret@db",
        )
    said = str(error.value)

    assert "poll_seconds must be at least 1, not 0. notification_seconds must be" in said
    for name in ("webhook_url is", "label_studio.url is", "s3.endpoint_url is", "database_url: "):
        assert name in said
    assert "secret" not in said

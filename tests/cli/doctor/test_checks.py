"""The findings of `doctor`, on systems in memory."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ls_pipeline.cli.doctor.checks import examine
from ls_pipeline.cli.doctor.requirements import policies
from ls_pipeline.cli.main import main
from ls_pipeline.cli.servers.ports import choose_port
from ls_pipeline.cli.servers.webhook_receiver import serving
from ls_pipeline.domain.errors import BucketAccessError, ObjectChangedError, UnknownConnectionError
from ls_pipeline.resources.environment import webhook_secret
from ls_pipeline.resources.labeling_app import BrowserResponse
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, Bench
from tests.contracts.memory_queue import MemoryQueue
from tests.engine.test_load import Wrapped

ROLE = "arn:aws:iam::123456789012:role/labels"


@pytest.fixture
def bench(empty_ledger):
    return Bench(empty_ledger)


def cli(bench, target=None):
    stores = {"bucket": bench.bucket, "labels": target or bench.target}
    return SimpleNamespace(
        ledger=bench.ledger,
        label_studio=bench.app,
        instance=SimpleNamespace(get_runs_count=lambda: 0),
        bucket_of=lambda side: stores[side.path],
    )


def findings(bench, target=None):
    report = examine((), cli(bench, target))
    checks = [*report.general, *report.connections["reviews"].checks]
    return report, {check.check: check for check in checks}


def blobs(bench, response):
    """Load an object as a blob. A browser gets this response for it."""
    bench.set(use_blob_urls=True)
    bench.put("a.png", b"picture")
    bench.load()
    bench.app.browser_response = response
    return findings(bench)


def refuse(*_):
    raise BucketAccessError("s3://labels/k", "access is refused.", hint="Check the credentials.")


def test_everything_is_ok(bench):
    bench.put("a.json", {"text": "a"})
    report, checks = findings(bench)

    assert {check.state for check in checks.values()} == {"ok"}
    assert (report.failed, bench.target.objects) == (False, {})


def test_unknown_connection_is_refused_before_anything_is_tried(bench):
    with pytest.raises(UnknownConnectionError):
        examine(("absent",), cli(bench))


def test_run_that_waits_for_a_person_is_a_failed_check(bench):
    bench.fail("completions", "It is another project.", needs_decision=True)
    bench.fail("tasks", "Label Studio is down.")
    report, checks = findings(bench)

    assert (checks["runs"].state, checks["runs"].says) == ("failed", "It is another project.")
    assert (report.failed, [each.check for each in checks.values()].count("runs")) == (True, 1)


def test_project_that_is_another_one_is_a_failed_check(bench):
    bench.load()
    bench.app.delete_project(1)
    gone = findings(bench)[1]["project"]
    bench.app.create_project("Reviews", CONFIG)
    other = findings(bench)[1]["project"]

    assert (gone.state, gone.says) == ("failed", "Project 1 does not exist any more.")
    assert other.says.startswith("Project 1 is another one: it was created ")
    assert other.do == "See what `ls-pipeline connections rebind reviews` offers."


def test_other_version_is_a_warning(bench):
    bench.app.release = "1.21.0"

    assert findings(bench)[1]["version"].state == "warning"


def test_regex_that_selects_nothing_is_a_warning(bench):
    bench.set(regex="x")
    bench.put("a.json", {"text": "a"})
    report, checks = findings(bench)

    assert (checks["source: list"].state, report.failed) == ("warning", False)
    assert "0 of 1 objects" in checks["source: list"].says


def test_object_that_is_not_a_task_is_a_warning_with_its_reason(bench):
    bench.put("a.json", {"txt": "a"})
    checks = findings(bench)[1]

    assert checks["source: read"].state == "warning"
    assert "'text'" in checks["source: read"].says


def test_label_config_that_shows_other_data_fails(bench):
    bench.set(data_key="text")
    bench.app.projects[1] = ("Reviews", '<View><Image name="i" value="$image"/></View>')

    assert findings(bench)[1]["label config"].state == "failed"


def test_deleting_refused_is_a_warning_that_names_what_is_left(bench):
    report, checks = findings(bench, Wrapped(bench.target, delete=refuse))
    (left,) = bench.target.objects

    assert (checks["target: delete"].state, report.failed) == ("warning", False)
    assert left in checks["target: delete"].do


@pytest.mark.parametrize("method", ["put", "get", "pages"])
def test_target_that_refuses_fails_and_nothing_is_left(bench, method):
    report, checks = findings(bench, Wrapped(bench.target, **{method: refuse}))
    check = {"put": "write", "get": "read", "pages": "list"}[method]

    assert (report.failed, checks[f"target: {check}"].do) == (True, "Check the credentials.")
    assert bench.target.objects == {}


def test_store_that_refuses_its_own_version_fails(bench):
    def refuse_conditions(key, body, content_type, if_version=None):
        if if_version is not None:
            raise ObjectChangedError(f"s3://labels/{key}")
        return bench.target.put(key, body, content_type)

    report, checks = findings(bench, Wrapped(bench.target, put=refuse_conditions))
    check = checks["target: conditions"]

    assert (check.state, report.failed, bench.target.objects) == ("failed", True, {})
    assert "No snapshot can follow another" in check.says


def test_store_that_ignores_conditions_is_a_warning_that_says_what_it_costs(bench):
    def ignore_conditions(key, body, content_type, if_version=None):
        return bench.target.put(key, body, content_type)

    report, checks = findings(bench, Wrapped(bench.target, put=ignore_conditions))
    check = checks["target: conditions"]

    assert (check.state, report.failed, bench.target.objects) == ("warning", False, {})
    assert "may overwrite a newer file" in check.says


def media(bench, status, **params):
    """Load a task that names two other buckets; return what doctor says about them."""
    bench.set(**params)
    bench.put("a.json", {"text": "s3://pictures/1.png", "more": ["see 'gs://sounds/2.wav'"]})
    bench.load()
    bench.app.browser_response = BrowserResponse(status, "", cors_allowed=True)
    report = examine((), cli(bench))
    checks = report.connections["reviews"].checks
    return [check for check in checks if check.check == "media: open"]


def test_buckets_that_tasks_name_are_opened(bench):
    checks = media(bench, 200)

    assert [check.state for check in checks] == ["ok", "ok"]
    assert "opens s3://pictures/1.png" in checks[0].says
    assert "opens gs://sounds/2.wav" in checks[1].says


def test_bucket_that_does_not_open_is_to_become_a_media_bucket(bench):
    listed, other = media(bench, 404, media_buckets=["pictures"])

    assert (listed.state, other.state) == ("failed", "failed")
    assert "registers the bucket" in listed.do
    assert other.do == "Add gs://sounds/ to the source param media_buckets."


def test_media_bucket_that_no_task_names_is_not_opened(bench):
    checks = media(bench, 200, media_buckets=["films"])

    assert [check.state for check in checks] == ["ok", "ok", "skipped"]


def test_bug_stops_no_other_connection(bench):
    Bench(bench.url, name="other")

    def break_off(*_):
        raise KeyError("x")

    report = examine((), cli(bench, Wrapped(bench.target, put=break_off)))

    last = [findings.checks[-1] for findings in report.connections.values()]
    assert [(check.check, check.state) for check in last] == [("doctor", "failed")] * 2


def test_blob_that_opens_is_ok(bench):
    checks = blobs(bench, BrowserResponse(206, "store", cors_allowed=True))[1]

    assert (checks["blobs: open"].state, checks["blobs: CORS"].state) == ("ok", "ok")


def test_bucket_without_a_cors_rule_fails(bench):
    checks = blobs(bench, BrowserResponse(200, "store", cors_allowed=False))[1]

    assert (checks["blobs: open"].state, checks["blobs: CORS"].state) == ("ok", "failed")
    assert "http://labels" in checks["blobs: CORS"].do


@pytest.mark.parametrize(
    ("status", "host", "advice"),
    [
        (403, "store", "credentials"),
        (404, "store", "removed"),
        (0, "store", "reachable"),
        (403, "", "LABEL_STUDIO_API_KEY"),
        (404, "", "ls-pipeline sync"),
    ],
)
def test_blob_that_does_not_open_has_a_hint(bench, status, host, advice):
    check = blobs(bench, BrowserResponse(status, host, cors_allowed=False))[1]["blobs: open"]

    assert (check.state, advice in check.do) == ("failed", True)


# -- notifications ------------------------------------------------------------------------

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/labels"
ARN = "arn:aws:sqs:eu-west-1:123456789012:labels"


def notified(bench, queue, **configuration):
    """Examine a queue, and a bucket with this notification configuration."""
    bench.set(notifications=QUEUE)
    bench.bucket.notifications = configuration
    world = cli(bench)
    world.queues = SimpleNamespace(open=lambda _source: queue)
    report = examine((), world)
    return report, {check.check: check for check in report.connections["reviews"].checks}


def test_queue_with_notifications_is_ok(bench):
    configuration = {"QueueArn": ARN, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    report, checks = notified(bench, MemoryQueue(QUEUE), QueueConfigurations=[configuration])

    assert (checks["queue"].state, checks["notifications"].state) == ("ok", "ok")
    assert not report.failed


def test_queue_without_notifications_is_a_warning_with_the_commands(bench):
    report, checks = notified(bench, MemoryQueue(QUEUE))
    (setup,) = report.connections["reviews"].setups

    assert checks["notifications"].state == "warning"
    assert checks["notifications"].do == "Run the commands below."
    assert "aws s3api put-bucket-notification-configuration --bucket bucket" in setup.commands[1]


def test_absent_queue_fails(bench):
    report, checks = notified(bench, MemoryQueue(QUEUE, exists=False))

    assert (checks["queue"].state, checks["queue"].do) == ("failed", "Create it.")
    assert (checks["notifications"].state, report.failed) == ("skipped", True)


def test_unreadable_notifications_are_not_a_failure(bench):
    bench.set(notifications=QUEUE)
    bench.bucket.check_notifications = refuse
    world = cli(bench)
    world.queues = SimpleNamespace(open=lambda _source: MemoryQueue(QUEUE))
    report = examine((), world)
    check = {check.check: check for check in report.connections["reviews"].checks}["notifications"]

    assert (check.state, "can't be read" in check.says, report.failed) == ("skipped", True, False)


def test_queue_shows_in_the_policies():
    def needed(cloud, queue):
        source = {"type": cloud, "path": "b", "params": {"notifications": queue}}
        return policies(build_connection("c", source=source, target=None, project="Project"))

    (aws,) = needed("s3", QUEUE)
    (google,) = needed("gcs", "projects/p/subscriptions/s")

    assert aws.policy["Statement"][-1] == {
        "Effect": "Allow",
        "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage"],
        "Resource": ARN,
    }
    assert google.commands[-1].startswith(
        "gcloud pubsub subscriptions add-iam-policy-binding projects/p/subscriptions/s "
    )


def with_webhooks(bench, environment, url):
    environment.setenv("LS_PIPELINE_WEBHOOK_URL", url)
    bench.put("a.json", {"text": "a"})
    bench.load()
    return findings(bench)


def test_receiver_that_answers_and_is_registered_is_ok(bench, environment):
    with serving(bench.ledger, webhook_secret(), "127.0.0.1", choose_port(None, 3001)) as url:
        bench.app.register_webhook(1, f"{url}/connections/reviews", webhook_secret())
        _, checks = with_webhooks(bench, environment, url)

    assert (checks["webhooks"].state, checks["webhook calls"].state) == ("ok", "ok")


def test_receiver_that_neither_answers_nor_is_registered_is_a_warning(bench, environment):
    report, checks = with_webhooks(bench, environment, "http://127.0.0.1:9")

    assert (checks["webhooks"].state, checks["webhook calls"].state) == ("warning", "warning")
    assert not report.failed


def test_role_shows_in_the_policies():
    params = {"role_arn": ROLE, "prefix": "in"}
    connection = build_connection(
        "c",
        source={"type": "s3", "path": "a", "params": params},
        target={"type": "gcs-completions", "path": "b", "params": {}},
        project="Project",
    )

    assert [policy.whom for policy in policies(connection)] == [
        ROLE,
        "principals that assume the role",
        "the pipeline's Google account",
    ]


@pytest.mark.slow
def test_general_checks_need_no_connection_and_no_label_studio(environment):
    environment.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    environment.setenv("LABEL_STUDIO_API_KEY", "secret-of-ours")
    done = CliRunner().invoke(main, ["doctor", "--json"])
    report = json.loads(done.stdout)

    assert (done.exit_code, report["ok"], report["connections"]) == (1, False, {})
    assert [check["state"] for check in report["general"]] == ["ok", "ok", "failed"]
    assert "LABEL_STUDIO_URL" in report["general"][-1]["do"]
    assert "secret-of-ours" not in done.output


def test_ledger_that_can_not_be_opened_is_a_finding(environment):
    environment.setenv("LS_PIPELINE_DATABASE_URL", "nonsense")
    done = CliRunner().invoke(main, ["doctor"])

    assert (done.exit_code, "ledger" in done.stdout) == (1, True)

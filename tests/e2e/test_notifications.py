"""Bucket notifications through each service that delivers them, up to a run request."""

import itertools
import json
import os

import dagster as dg
import pytest

from ls_pipeline.resources.gcs.bucket import GCSBuckets
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.bucket import S3Buckets
from ls_pipeline.sensors import bucket_events
from ls_pipeline.sensors.notifications import Services, notifications_tick
from ls_pipeline.settings.validation import build_connection
from tests.bench import CONFIG, Bench
from tests.contracts.pubsub_server import pubsub
from tests.sensors.test_sensors import wanted

pytestmark = pytest.mark.server

KEYS = ["in/a b+c%.json", "in/naïve ☃//b.json"]
ACCOUNT = "123456789012"
numbers = itertools.count()


def directly(client, bucket, queue):
    configure(client, bucket, QueueConfigurations=[{"QueueArn": queue, "Events": EVENTS}])


def through_sns(client, bucket, queue, raw="false"):
    sns = client("sns")
    topic = sns.create_topic(Name=bucket)["TopicArn"]
    attributes = {"RawMessageDelivery": raw}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=attributes)
    configure(client, bucket, TopicConfigurations=[{"TopicArn": topic, "Events": EVENTS}])


def through_sns_raw(client, bucket, queue):
    through_sns(client, bucket, queue, raw="true")


def through_eventbridge(client, bucket, queue):
    events = client("events")
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
    events.put_rule(Name=bucket, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": queue}])
    configure(client, bucket, EventBridgeConfiguration={})


EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


def configure(client, bucket, **configuration):
    client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )


@pytest.fixture
def client(environment, s3_server):
    import boto3

    for name, value in s3_server.client_environment.items():
        environment.setenv(name, value)
    return boto3.client


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def notified_bench(cloud, bucket, queue, folder):
    """Return a bench whose source is a real bucket that notifies a queue."""
    bench = Bench(f"sqlite:///{folder}/ledger.db")
    params = {"notifications": queue, "prefix": "in"}
    source = {"type": cloud, "path": bucket, "params": params}
    connection = build_connection(
        "reviews", source=source, target=None, project="Reviews", label_config=CONFIG
    )
    bench.ledger.save(connection, "test")
    return bench


@pytest.fixture(autouse=True)
def short_wait(monkeypatch):
    monkeypatch.setattr(bucket_events, "WAIT_SECONDS", 1.0)


def ticks(bench, bucket, instance):
    """Return a function that runs a tick and returns the connections that it requests runs for."""
    queues, cursor = QueueOpener(), [None]

    def tick():
        context = dg.build_sensor_context(instance=instance, cursor=cursor[0])
        services = Services(lambda _: bucket, queues.open, bench.app)
        result = notifications_tick(context, bench.ledger, services)
        cursor[0] = result.cursor
        return wanted(result)

    return tick


@pytest.mark.parametrize("route", [directly, through_sns, through_sns_raw, through_eventbridge])
def test_s3_changes_request_runs_by_their_exact_keys(client, route, instance, tmp_path):
    name = f"notified-{os.getpid()}-{next(numbers)}"
    client("s3").create_bucket(Bucket=name)
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    route(client, name, f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")
    bucket = S3Buckets().open(name)
    bench = notified_bench("s3", name, url, tmp_path)
    tick, requested = ticks(bench, bucket, instance), []
    for key in KEYS:
        bucket.put(key, b'{"text": "a"}', "application/json")
        requested.append(tick())
        bench.load(bucket=bucket)
    bucket.delete(key)
    requested.append(tick())
    bench.load(bucket=bucket)
    requested.append(tick())
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    assert requested == [["reviews"], ["reviews"], ["reviews"], []]
    assert attributes["ApproximateNumberOfMessages"] == "0"
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_gcs_changes_request_runs_by_their_exact_keys(environment, gcs_server, instance, tmp_path):
    """The emulator sends no notifications: the test publishes them as GCS documents them."""
    from google.cloud import storage
    from google.cloud.pubsub_v1.publisher import Client

    name = f"notified-{os.getpid()}-{next(numbers)}"
    for variable, value in gcs_server.client_environment.items():
        environment.setenv(variable, value)
    storage.Client().create_bucket(name)
    bucket = GCSBuckets().open(name)
    with pubsub() as service:
        environment.setenv("PUBSUB_EMULATOR_HOST", service.address)
        queue, publisher = service.create(f"projects/p/subscriptions/{name}"), Client()

        def publish(event, key, generation):
            attributes = {
                "bucketId": name,
                "objectId": key,
                "objectGeneration": generation,
                "eventType": event,
                "payloadFormat": "NONE",
            }
            publisher.publish(f"projects/p/topics/{name}", b"", **attributes).result(10)

        bench = notified_bench("gcs", name, queue, tmp_path)
        tick, requested = ticks(bench, bucket, instance), []
        for key in KEYS:
            stored = bucket.put(key, b'{"text": "a"}', "application/json")
            publish("OBJECT_FINALIZE", key, stored.version)
            requested.append(tick())
            bench.load(bucket=bucket)
        publish("OBJECT_FINALIZE", key, stored.version)
        requested.append(tick())
        bucket.delete(key)
        publish("OBJECT_DELETE", key, stored.version)
        requested.append(tick())

        assert requested == [["reviews"], ["reviews"], [], ["reviews"]]
        assert service.subscriptions[queue] == {}

"""From a bucket to a look, over the services that carry a notification; and labels to a file."""

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


def straight(client, bucket, queue):
    configure(client, bucket, QueueConfigurations=[{"QueueArn": queue, "Events": EVENTS}])


def through_sns(client, bucket, queue, raw="false"):
    sns = client("sns")
    topic = sns.create_topic(Name=bucket)["TopicArn"]
    how = {"RawMessageDelivery": raw}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=how)
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


def configure(client, bucket, **how):
    client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=how)


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


def listening(cloud, bucket, queue, folder):
    """Give a bench whose source is a real bucket, with notifications."""
    bench = Bench(f"sqlite:///{folder}/ledger.db")
    params = {"notifications": queue, "prefix": "in"}
    source = {"type": cloud, "path": bucket, "params": params}
    one = build_connection(
        "reviews", source=source, target=None, project="Reviews", label_config=CONFIG
    )
    bench.ledger.save(one, "test")
    return bench


@pytest.fixture(autouse=True)
def short_wait(monkeypatch):
    monkeypatch.setattr(bucket_events, "WAIT_SECONDS", 1.0)


def ticks(bench, bucket, instance):
    """Give a function that makes one tick after the other; each gives whom it asks a run for."""
    queues, cursor = QueueOpener(), [None]

    def tick():
        context = dg.build_sensor_context(instance=instance, cursor=cursor[0])
        services = Services(lambda _: bucket, queues.open, bench.app)
        result = notifications_tick(context, bench.ledger, services)
        cursor[0] = result.cursor
        return wanted(result)

    return tick


@pytest.mark.parametrize("way", [straight, through_sns, through_sns_raw, through_eventbridge])
def test_changes_in_s3_are_heard_of_by_their_exact_keys(client, way, instance, tmp_path):
    name = f"heard-{os.getpid()}-{next(numbers)}"
    client("s3").create_bucket(Bucket=name)
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    way(client, name, f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")
    bucket = S3Buckets().open(name)
    bench = listening("s3", name, url, tmp_path)
    tick, asked = ticks(bench, bucket, instance), []
    for key in KEYS:
        bucket.put(key, b'{"text": "a"}', "application/json")
        asked.append(tick())
        bench.load(bucket=bucket)
    bucket.delete(key)
    asked.append(tick())
    bench.load(bucket=bucket)
    asked.append(tick())
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    assert asked == [["reviews"], ["reviews"], ["reviews"], []]
    assert left["ApproximateNumberOfMessages"] == "0"
    assert left["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_changes_in_gcs_are_heard_of_by_their_exact_keys(
    environment, gcs_server, instance, tmp_path
):
    """The emulator tells nobody of changes: what GCS documents to tell is published here."""
    from google.cloud import storage
    from google.cloud.pubsub_v1.publisher import Client

    name = f"heard-{os.getpid()}-{next(numbers)}"
    for variable, value in gcs_server.client_environment.items():
        environment.setenv(variable, value)
    storage.Client().create_bucket(name)
    bucket = GCSBuckets().open(name)
    with pubsub() as service:
        environment.setenv("PUBSUB_EMULATOR_HOST", service.address)
        queue, publisher = service.create(f"projects/p/subscriptions/{name}"), Client()

        def tell(event, key, generation):
            attributes = {
                "bucketId": name,
                "objectId": key,
                "objectGeneration": generation,
                "eventType": event,
                "payloadFormat": "NONE",
            }
            publisher.publish(f"projects/p/topics/{name}", b"", **attributes).result(10)

        bench = listening("gcs", name, queue, tmp_path)
        tick, asked = ticks(bench, bucket, instance), []
        for key in KEYS:
            stored = bucket.put(key, b'{"text": "a"}', "application/json")
            tell("OBJECT_FINALIZE", key, stored.version)
            asked.append(tick())
            bench.load(bucket=bucket)
        tell("OBJECT_FINALIZE", key, stored.version)
        asked.append(tick())
        bucket.delete(key)
        tell("OBJECT_DELETE", key, stored.version)
        asked.append(tick())

        assert asked == [["reviews"], ["reviews"], [], ["reviews"]]
        assert service.subscriptions[queue] == {}

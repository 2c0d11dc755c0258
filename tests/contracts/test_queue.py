"""One suite for every Queue: in memory, SQS, Pub/Sub."""

import itertools
import json
import time
from types import SimpleNamespace

import grpc
import pytest

from ls_pipeline.domain.errors import QueueAccessError, QueueError, QueueUnavailableError
from ls_pipeline.domain.events import BucketEvent, parse_message
from ls_pipeline.resources.gcs import pubsub as pubsub_module
from ls_pipeline.resources.gcs.pubsub import PubSubQueue
from ls_pipeline.resources.queue import QueueOpener
from ls_pipeline.resources.s3.sqs import SQSQueue, arn_of, region_of
from ls_pipeline.sensors import bucket_events
from ls_pipeline.sensors.probes import ProbePool
from ls_pipeline.sensors.tick import Tick
from ls_pipeline.settings.model import Source
from ls_pipeline.settings.params import SourceParams
from tests.contracts.conftest import Answer
from tests.contracts.memory_queue import MemoryQueue
from tests.contracts.pubsub_server import ACK_SECONDS, pubsub

numbers = itertools.count()


def memory(_request):
    queue, absent = MemoryQueue(hidden=0.7), MemoryQueue(exists=False)
    return SimpleNamespace(
        queue=queue,
        send=queue.send,
        absent=absent,
        hidden=queue.hidden,
        destination="arn:aws:sqs:us-east-1::memory",
    )


def sqs(request):
    import boto3

    environment = request.getfixturevalue("environment")
    for name, value in request.getfixturevalue("s3_server").client_environment.items():
        environment.setenv(name, value)
    client = boto3.client("sqs")
    hidden = 2.0
    url = client.create_queue(
        QueueName=f"queue-{next(numbers)}", Attributes={"VisibilityTimeout": f"{hidden:.0f}"}
    )["QueueUrl"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return SimpleNamespace(
        queue=SQSQueue(url),
        send=lambda body: client.send_message(QueueUrl=url, MessageBody=body),
        absent=SQSQueue(f"{url}-absent"),
        hidden=hidden,
        destination=attributes["Attributes"]["QueueArn"],
    )


@pytest.fixture(scope="module")
def pubsub_server():
    with pubsub() as server:
        yield server


@pytest.fixture
def on_pubsub(pubsub_server, environment):
    environment.setenv("PUBSUB_EMULATOR_HOST", pubsub_server.address)
    yield pubsub_server
    pubsub_server.refuses = None


def on_google(request):
    from google.cloud.pubsub_v1.publisher import Client

    server = request.getfixturevalue("on_pubsub")
    name = f"projects/p/subscriptions/queue-{next(numbers)}"
    queue, publisher = PubSubQueue(server.create(name)), Client()

    topic = name.replace("/subscriptions/", "/topics/")

    def send(body, **attributes):
        publisher.publish(topic, body.encode(), **attributes).result(10)

    absent = PubSubQueue(f"{name}-absent")
    return SimpleNamespace(
        queue=queue, send=send, absent=absent, hidden=ACK_SECONDS, destination=topic
    )


@pytest.fixture(
    params=[
        memory,
        pytest.param(sqs, marks=pytest.mark.server),
        pytest.param(on_google, marks=pytest.mark.server),
    ],
    ids=["memory", "sqs", "pubsub"],
)
def service(request):
    return request.param(request)


def bodies(messages):
    return sorted(message.body for message in messages)


def test_sent_messages_are_received(service):
    for body in ("one", "zwei ☃", '{"three": 3}'):
        service.send(body)

    assert bodies(service.queue.receive(10, 1.0)) == ["one", "zwei ☃", '{"three": 3}']


def test_only_unacknowledged_messages_are_delivered_again(service):
    for n in range(30):
        service.send(str(n))
    received = service.queue.receive(100, 1.0)
    acknowledged = [message for message in received if message.body != "7"]
    service.queue.acknowledge(acknowledged)
    service.queue.acknowledge(acknowledged)
    time.sleep(service.hidden + 0.2)

    assert bodies(received) == sorted(map(str, range(30)))
    assert bodies(service.queue.receive(100, 1.0)) == ["7"]


def test_receive_returns_at_most_the_requested_number(service):
    for n in range(30):
        service.send(f"{n:02}")
    first, rest = service.queue.receive(25, 1.0), service.queue.receive(25, 1.0)

    assert (len(first), len(rest)) == (25, 5)
    assert bodies([*first, *rest]) == [f"{n:02}" for n in range(30)]


def test_probe_removes_no_message(service):
    service.send("one")
    service.queue.probe()

    assert bodies(service.queue.receive(10, 1.0)) == ["one"]


def test_destination_is_the_address_that_buckets_notify(service):
    assert service.queue.destination() == service.destination


@pytest.mark.parametrize("use", ["receive", "acknowledge", "probe"])
def test_absent_queue_says_what_to_do(service, use):
    service.send("one")
    received = service.queue.receive(10, 1.0)
    arguments = {"receive": (10, 1.0), "acknowledge": (received,), "probe": ()}[use]

    with pytest.raises(QueueError, match=r"does not exist\. Create it"):
        getattr(service.absent, use)(*arguments)


def test_empty_queue_returns_soon_without_messages(service):
    began = time.monotonic()

    assert service.queue.receive(10, 1.0) == []
    assert time.monotonic() - began < 5


# -- SQS ----------------------------------------------------------------------------------


@pytest.fixture
def refused(environment, fake_server):
    """Return a function that returns a queue whose service refuses with a code."""
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    queue = SQSQueue(f"{fake_server.url}/123456789012/labels", "eu-west-1")

    def refuse(code, status):
        body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "Said so."})
        fake_server.answer = Answer(body.encode(), status, {"x-amzn-errortype": code})
        return queue

    return refuse


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"),
    [
        ("AccessDenied", 403, QueueAccessError, "Allow the credentials sqs:ReceiveMessage"),
        ("InvalidClientTokenId", 403, QueueAccessError, "Check the AWS credentials"),
        ("ExpiredToken", 400, QueueAccessError, "Check the AWS credentials"),
        ("QueueDoesNotExist", 400, QueueError, "Create it"),
        ("ThrottlingException", 400, QueueUnavailableError, "Try again"),
        ("OverLimit", 403, QueueUnavailableError, "Try again"),
        ("InternalFailure", 500, QueueUnavailableError, "Try again"),
        ("UnsupportedOperation", 400, QueueError, "SQS refused"),
    ],
)
def test_refusal_of_sqs_says_what_to_do(refused, code, status, kind, advice):
    with pytest.raises(kind, match=advice) as caught:
        refused(code, status).receive(1, 1.0)

    assert caught.type is kind
    assert "secret" not in str(caught.value)


def test_reading_a_long_queue_ends_before_its_deadline(environment, fake_server):
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    messages = [{"MessageId": "1", "Body": "{}", "ReceiptHandle": "r"}] * 10
    body = json.dumps({"Messages": messages}).encode()

    def answer(_request):
        time.sleep(0.045)
        return Answer(body)

    fake_server.answer = answer
    queue = SQSQueue(f"{fake_server.url}/123456789012/labels", "eu-west-1")
    assert queue._client  # creating it takes a while
    pool, backlog, tick = ProbePool(), bucket_events.Backlog(), Tick()
    source = Source(type="s3", path="b", params=SourceParams(notifications=queue.address))
    status = SimpleNamespace(connection=SimpleNamespace(source=source))
    batches = bucket_events.read_queues({"reviews": status}, lambda _: queue, backlog, pool, tick)

    assert len(batches["reviews"].messages) > 100


def test_sqs_that_does_not_answer_is_unavailable(refused):
    queue = SQSQueue("http://127.0.0.1:9/123456789012/labels", "eu-west-1")

    with pytest.raises(QueueUnavailableError, match="Check the network"):
        queue.receive(1, 1.0)


def test_sqs_without_credentials_says_what_to_set(environment):
    with pytest.raises(QueueAccessError, match="AWS_ACCESS_KEY_ID"):
        SQSQueue("http://127.0.0.1:9/123456789012/labels", "eu-west-1").receive(1, 1.0)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/labels", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/labels", "eu-west-1"),
        ("https://sqs.eu-west-1.api.aws/123456789012/labels", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/labels", "cn-north-1"),
        ("https://vpce-1-2.sqs.us-east-2.vpce.amazonaws.com/123456789012/q", "us-east-2"),
        ("http://127.0.0.1:5000/123456789012/labels", ""),
        ("https://sqs.example.com/1/labels", ""),
    ],
)
def test_region_is_read_from_the_url(url, region):
    assert region_of(url) == region


def test_arn_is_read_from_the_url():
    arns = [
        arn_of("https://sqs.eu-west-1.amazonaws.com/123456789012/labels", "us-east-2"),
        arn_of("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/labels", ""),
        arn_of("http://127.0.0.1:5000/123456789012/labels", "us-east-2"),
    ]

    assert arns == [
        "arn:aws:sqs:eu-west-1:123456789012:labels",
        "arn:aws-cn:sqs:cn-north-1:123456789012:labels",
        "arn:aws:sqs:us-east-2:123456789012:labels",
    ]


# -- Pub/Sub ------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        ("PERMISSION_DENIED", QueueAccessError, "roles/pubsub.subscriber"),
        ("UNAUTHENTICATED", QueueAccessError, "roles/pubsub.subscriber"),
        ("UNAVAILABLE", QueueUnavailableError, "Try again"),
        ("RESOURCE_EXHAUSTED", QueueUnavailableError, "Try again"),
        ("FAILED_PRECONDITION", QueueError, "refused"),
    ],
)
def test_refusal_of_pubsub_says_what_to_do(on_pubsub, status, kind, advice):
    queue = PubSubQueue(on_pubsub.create("projects/p/subscriptions/refused"))
    on_pubsub.refuses = grpc.StatusCode[status]

    with pytest.raises(kind, match=advice) as caught:
        queue.receive(1, 1.0)

    assert caught.type is kind


@pytest.mark.slow
def test_pubsub_that_does_not_answer_is_unavailable(environment, monkeypatch):
    environment.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.setattr(pubsub_module, "ANSWER_SECONDS", 0.5)

    with pytest.raises(QueueUnavailableError, match="Check the network"):
        PubSubQueue("projects/p/subscriptions/s").receive(1, 0.5)


@pytest.mark.server
def test_attributes_arrive_with_the_message(request, on_pubsub):
    service = on_google(request)
    service.send("", bucketId="b", objectId="a ☃.json", objectGeneration="7", eventType="X")
    (message,) = service.queue.receive(10, 1.0)

    assert parse_message(message).events == (BucketEvent("b", "a ☃.json", "7"),)


@pytest.mark.server
def test_client_that_is_not_installed_is_an_error(on_pubsub, environment):
    environment.setattr(pubsub_module, "find_spec", lambda _name: None)

    with pytest.raises(QueueError, match=r"Run pip install 'ls-pipeline\[pubsub\]'"):
        PubSubQueue("projects/p/subscriptions/s").receive(1, 1.0)


# -- opening a queue ----------------------------------------------------------------------


def named(cloud, queue, **params):
    return Source(type=cloud, path="b", params={"notifications": queue, **params})


SQS = "https://sqs.eu-west-1.amazonaws.com/123456789012/labels"


def test_queue_is_opened_once_per_address_and_role():
    queues, role = QueueOpener(), "arn:aws:iam::123456789012:role/labels"
    first, second = (queues.open(named("s3", SQS, prefix=prefix)) for prefix in "ab")

    assert first is second
    assert first is not queues.open(named("s3", SQS, role_arn=role))
    assert queues.open(named("gcs", "projects/p/subscriptions/s")).address.endswith("/s")


def test_queue_is_read_in_its_role(environment, fake_server, sts):
    from tests.contracts.test_s3_options import ROLE, assumed, signer

    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-ours")
    environment.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    sts.answer, fake_server.answer = assumed(3600), Answer(b"{}")
    params = {"role_arn": ROLE, "region_name": "eu-west-3"}
    QueueOpener().open(named("s3", f"{fake_server.url}/1/labels", **params)).receive(1, 1.0)

    assert signer(fake_server.requests[0]) == ("ASIA1", "eu-west-3")

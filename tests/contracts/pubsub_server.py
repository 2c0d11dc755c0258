"""The subscription side of Pub/Sub, over gRPC, with Google's own messages.

Google's emulator is a Java program that no package registry offers. This server speaks the real
service's protocol; its behaviour is our own, and does not prove anything about Google's.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from concurrent import futures

import grpc
from google.iam.v1 import iam_policy_pb2
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

ACK_SECONDS = 2.0
"""Time after which an unacknowledged message is delivered again; Google's minimum is 10."""

SUBSCRIBER = "google.pubsub.v1.Subscriber"
PUBLISHER = "google.pubsub.v1.Publisher"


class PubSub:
    """Topics, each with one subscription of the same name."""

    def __init__(self):
        self.subscriptions = {}
        self.refuses = None
        """The gRPC status of every answer, if set."""
        self.address = ""
        self._ids = itertools.count(1)
        self._lock = threading.Condition()

    def create(self, name):
        self.subscriptions[name] = {}
        return name

    # -- the methods of the two services --------------------------------------------------

    def publish(self, request, context):
        name = request.topic.replace("/topics/", "/subscriptions/")
        waiting = self._of(name, context)
        with self._lock:
            new = {str(next(self._ids)): [message, 0.0] for message in request.messages}
            waiting.update(new)
            self._lock.notify_all()
        return types.PublishResponse(message_ids=list(new))

    def pull(self, request, context):
        waiting = self._of(request.subscription, context)
        with self._lock:
            while not (ready := self._ready(waiting)):
                self._lock.wait(0.05)
                if not context.is_active():
                    return types.PullResponse()
            delivered = ready[: request.max_messages]
            for ack_id in delivered:
                waiting[ack_id][1] = time.monotonic() + ACK_SECONDS
            return types.PullResponse(
                received_messages=[
                    types.ReceivedMessage(ack_id=ack_id, message=waiting[ack_id][0])
                    for ack_id in delivered
                ]
            )

    def acknowledge(self, request, context):
        waiting = self._of(request.subscription, context)
        with self._lock:
            for ack_id in request.ack_ids:
                waiting.pop(ack_id, None)
        return empty_pb2.Empty()

    def get_subscription(self, request, context):
        self._of(request.subscription, context)
        topic = request.subscription.replace("/subscriptions/", "/topics/")
        return types.Subscription(name=request.subscription, topic=topic)

    def test_iam_permissions(self, request, context):
        self._of(request.resource, context)
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)

    def _ready(self, waiting):
        return [ack_id for ack_id, (_, hidden) in waiting.items() if hidden <= time.monotonic()]

    def _of(self, name, context):
        if self.refuses is not None:
            context.abort(self.refuses, "Said so.")
        if name not in self.subscriptions:
            context.abort(grpc.StatusCode.NOT_FOUND, "Resource not found.")
        return self.subscriptions[name]


def _handlers(server):
    def plain(method, request, answer):
        return grpc.unary_unary_rpc_method_handler(method, request.deserialize, answer.serialize)

    def proto(method, request, answer):
        return grpc.unary_unary_rpc_method_handler(
            method, request.FromString, answer.SerializeToString
        )

    empty = grpc.unary_unary_rpc_method_handler(
        server.acknowledge, types.AcknowledgeRequest.deserialize, empty_pb2.Empty.SerializeToString
    )
    subscriber = {
        "Pull": plain(server.pull, types.PullRequest, types.PullResponse),
        "Acknowledge": empty,
        "GetSubscription": plain(
            server.get_subscription, types.GetSubscriptionRequest, types.Subscription
        ),
    }
    publisher = {"Publish": plain(server.publish, types.PublishRequest, types.PublishResponse)}
    permissions = proto(
        server.test_iam_permissions,
        iam_policy_pb2.TestIamPermissionsRequest,
        iam_policy_pb2.TestIamPermissionsResponse,
    )
    return [
        grpc.method_handlers_generic_handler(SUBSCRIBER, subscriber),
        grpc.method_handlers_generic_handler(PUBLISHER, publisher),
        grpc.method_handlers_generic_handler(
            "google.iam.v1.IAMPolicy", {"TestIamPermissions": permissions}
        ),
    ]


@contextlib.contextmanager
def pubsub():
    """Run the server on a free loopback port."""
    server, service = grpc.server(futures.ThreadPoolExecutor(16)), PubSub()
    server.add_generic_rpc_handlers(_handlers(service))
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(None).wait()

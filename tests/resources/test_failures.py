"""Every exception that a cloud's client library can raise becomes a pipeline error."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import SimpleNamespace

import pytest

from ls_pipeline.domain.errors import BucketError, QueueError
from ls_pipeline.resources import failures
from ls_pipeline.resources.gcs import errors as gcs
from ls_pipeline.resources.gcs.bucket import GCSBucket
from ls_pipeline.resources.gcs.pubsub import PubSubQueue
from ls_pipeline.resources.patience import Patience
from ls_pipeline.resources.s3 import errors as s3
from ls_pipeline.resources.s3.bucket import S3Bucket
from ls_pipeline.resources.s3.credentials import Role, _translated
from ls_pipeline.resources.s3.errors import CredentialsError
from ls_pipeline.resources.s3.fast_objects import FastObjects, md5
from ls_pipeline.resources.s3.sqs import SQSQueue

pytestmark = pytest.mark.slow

UNREACHABLE = {
    # of botocore's event streams, which we never open
    "botocore.eventstream",
    # of a damaged service description in botocore
    "botocore.model",
    "botocore.exceptions.MissingServiceIdError",
    "botocore.exceptions.UndefinedModelAttributeError",
    # caught within botocore, while it asks for a machine's role
    "botocore.utils.BadIMDSRequestError",
    "botocore.utils._RetriesExceededError",
    # of Google's asynchronous client, and of its transfer manager
    "google.api_core.exceptions.AsyncRestUnsupportedParameterError",
    "google.cloud.storage.exceptions.InvalidPathError",
}


def exceptions_of(*names):
    """Return the exception classes that are defined in modules."""
    modules = map(importlib.import_module, names)
    classes = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and not issubclass(kind, Warning)
        if kind.__module__ == module.__name__
    }
    names_of = {kind: f"{kind.__module__}.{kind.__qualname__}" for kind in classes}
    return sorted(
        (kind for kind in classes if not {kind.__module__, names_of[kind]} & UNREACHABLE),
        key=names_of.__getitem__,
    )


def modules_of(package):
    root = importlib.import_module(package)
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules(root.__path__)]


ATTRIBUTES = {
    "_cause": None,
    "_response": None,
    "_retryable": False,
    "expected": 2,
    "length": b"1",
    "partial": 1,
    "response": {},
}
"""Attributes that the classes set in ``__init__`` and need for their text."""


def instance_of(kind):
    """Return an instance without the arguments that the class requires."""
    error = kind.__new__(kind)
    Exception.__init__(error, "it went wrong")
    for name, value in ATTRIBUTES.items():
        if not hasattr(error, name):
            error.__dict__[name] = value
    return error


def raising(kind):
    def call(*_args, **_options):
        raise instance_of(kind)

    return call


BOTOCORE = exceptions_of(*modules_of("botocore"), "urllib3.exceptions")
GOOGLE = exceptions_of("google.api_core.exceptions", "google.auth.exceptions")
STORAGE = exceptions_of(
    "google.cloud.storage.exceptions", "requests.exceptions", "urllib3.exceptions"
)
OBSTORE = [
    kind
    for _, kind in inspect.getmembers(importlib.import_module("obstore.exceptions"))
    if inspect.isclass(kind) and issubclass(kind, Exception)
]


def name_of(kind):
    return f"{kind.__module__}.{kind.__name__}"


def test_enumeration_finds_the_libraries_exceptions():
    assert min(map(len, (BOTOCORE, GOOGLE, STORAGE, OBSTORE))) > 10


def test_tables_name_classes_that_exist():
    known = {base.__name__ for kind in [*BOTOCORE, *GOOGLE, *STORAGE] for base in kind.__mro__}
    named = " ".join([*s3._EXCEPTIONS.values(), *gcs._EXCEPTIONS.values()]).split()

    assert set(named) - known <= {"LoginError"}  # not in every version


@pytest.mark.parametrize("kind", BOTOCORE, ids=name_of)
def test_s3_bucket_translates_every_exception(kind):
    client = SimpleNamespace(delete_object=raising(kind))

    with pytest.raises(BucketError, match=r"^s3://b/k?: "):
        S3Bucket("b", SimpleNamespace(client=client)).delete("k")


@pytest.mark.parametrize("kind", BOTOCORE, ids=name_of)
def test_sqs_queue_translates_every_exception(kind):
    queue = SQSQueue("https://sqs.eu-west-1.amazonaws.com/1/q")
    queue._client = SimpleNamespace(receive_message=raising(kind))

    with pytest.raises(QueueError, match=r"^https://sqs"):
        queue.receive(1, 1.0)


@pytest.mark.parametrize("kind", BOTOCORE, ids=name_of)
def test_role_translates_every_exception(kind):
    with pytest.raises(CredentialsError, match="role r can't be assumed"), _translated(Role("r")):
        raise instance_of(kind)


@pytest.mark.parametrize("kind", [*GOOGLE, *STORAGE], ids=name_of)
def test_gcs_bucket_translates_every_exception(kind):
    client = SimpleNamespace(_connection=SimpleNamespace(api_request=raising(kind)))

    with pytest.raises(BucketError, match=r"^gs://b/: "):
        list(GCSBucket("b", client, None).pages())


@pytest.mark.parametrize("kind", GOOGLE, ids=name_of)
def test_pubsub_queue_translates_every_exception(kind):
    queue = PubSubQueue("projects/p/subscriptions/s")
    queue._client = SimpleNamespace(acknowledge=raising(kind), close=lambda: None)

    with pytest.raises(QueueError, match=r"^projects/p"):
        queue.acknowledge([SimpleNamespace(receipt="1")])


@pytest.mark.parametrize("kind", OBSTORE, ids=name_of)
def test_fast_objects_leave_every_exception_to_botocore(kind, monkeypatch):
    objects = FastObjects.__new__(FastObjects)
    objects._store, objects._misses, objects._patience = None, 0, Patience(1)
    for name in ("get", "put"):
        monkeypatch.setattr(f"obstore.{name}", raising(kind))

    assert objects.get("k", md5(b"")) is objects.put("k", b"", "text/plain") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            'to "http://127.0.0.1:9/b?list-type=2&X-Amz-Signature=1f".\n',
            'to "http://127.0.0.1:9/b"',
        ),
        (
            "with url: /storage/v1/b/o?prefix=a (Caused by …)",
            "with url: /storage/v1/b/o (Caused by …)",
        ),
        ("and/or? a=b", "and/or? a=b"),
    ],
)
def test_query_of_an_address_is_left_out(text, shown):
    assert failures.one_line(text) == shown

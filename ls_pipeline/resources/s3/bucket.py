"""S3 buckets, over botocore's client."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from ls_pipeline.domain.errors import (
    BucketAccessError,
    BucketError,
    BucketUnavailableError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from ls_pipeline.domain.notification_setup import NotificationCheck, check_s3_notifications
from ls_pipeline.domain.objects import StoredObject, uri
from ls_pipeline.resources.client_cache import OncePerKey
from ls_pipeline.resources.failures import Service, bucket_error, cause_of, one_line
from ls_pipeline.resources.listing import ListedBucket, ListingPage
from ls_pipeline.resources.patience import Patience
from ls_pipeline.resources.s3.botocore_data import new_session
from ls_pipeline.resources.s3.credentials import (
    Role,
    check_variables,
    create_client,
)
from ls_pipeline.resources.s3.errors import S3, error_code, failure, handled
from ls_pipeline.resources.s3.fast_list import FastListTransport, version_of
from ls_pipeline.resources.s3.fast_objects import FastObjects, md5
from ls_pipeline.resources.s3.writing import (
    CHECKSUMS,
    DEFAULT_WRITING,
    Writing,
    checksum_of,
    checksum_of_parts,
    multipart_version,
    same_bytes,
)
from ls_pipeline.settings.addresses import access_point_region
from ls_pipeline.settings.params import TargetParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ls_pipeline.resources.bucket import Bucket
    from ls_pipeline.settings.model import Source, Target

Written = TypeVar("Written")


class Keys(NamedTuple):
    """AWS's keys; a session token belongs to temporary ones."""

    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(frozen=True)
class S3Options:
    """A connection's options for one bucket; the resource's apply if these are empty."""

    endpoint_url: str = ""
    region_name: str = ""
    role_arn: str = ""
    external_id: str = ""
    addressing_style: str = "auto"
    requester_pays: bool = False
    writing: Writing = DEFAULT_WRITING


_NO_OPTIONS = S3Options()


CHUNK = 2**20
"""Bytes of a download that are in memory at once."""

PART = 16 * CHUNK
"""A file of more bytes is uploaded in parts of that many."""


@dataclass(frozen=True)
class S3Buckets:
    """Amazon S3, or any store that speaks its protocol.

    Empty settings are found as every AWS tool finds them: AWS_* environment variables, the shared
    configuration files, then the machine's role.
    """

    region_name: str = ""
    """Empty: AWS_DEFAULT_REGION, else AWS's own configuration."""
    endpoint_url: str = ""
    """Empty: AWS_ENDPOINT_URL, else Amazon's."""
    profile_name: str = ""
    """Empty: AWS_PROFILE, else the default one."""
    max_attempts: int = 5
    """How often a request is tried."""
    answer_seconds: float = 0.0
    """For how long an answer is waited for; 0: LS_PIPELINE_STORE_SECONDS."""
    keys: Keys | None = field(default=None, repr=False)
    """Fixed keys instead of those that AWS's tools find; they may also assume a role."""
    is_signed: bool = True
    """False: requests carry no signature, as public buckets allow."""
    use_ssl: bool = True
    """False: http:// if no endpoint is set."""
    verify: bool = True
    """False: the certificate of the store is not checked."""

    _transports: OncePerKey[S3Options, FastListTransport] = field(
        default_factory=OncePerKey[S3Options, FastListTransport], init=False, repr=False
    )
    _patience: OncePerKey[str, Patience] = field(
        default_factory=OncePerKey[str, Patience], init=False, repr=False
    )
    """For each endpoint, and for the source of credentials."""

    def open(self, name: str, options: S3Options = _NO_OPTIONS) -> Bucket:
        """Return a bucket, without a request to it. Raises ``BucketAccessError``.

        Buckets that differ only in name and in how they are written share a client and its
        connections. The client of an access point is one of its region.
        """
        region = access_point_region(name) or options.region_name
        shared = replace(options, region_name=region, writing=DEFAULT_WRITING)
        with _translated(uri("s3", name, "")):
            transport = self._transports.get(shared, lambda: self._open_transport(shared))
            return S3Bucket(name, transport, options.writing)

    def bucket_of(self, part: Source | Target) -> Bucket:
        """Open the bucket of a source or target, with its params."""
        params = part.params
        return self.open(
            part.path,
            S3Options(
                params.endpoint_url,
                params.region_name,
                params.role_arn,
                params.external_id,
                params.addressing_style,
                params.requester_pays,
                Writing.of(params) if isinstance(params, TargetParams) else DEFAULT_WRITING,
            ),
        )

    def _open_transport(self, options: S3Options) -> FastListTransport:
        own = self.session()
        client = self._client(own, options)
        if options.requester_pays:
            client.meta.events.register("before-sign.s3", _request_payer)
        return FastListTransport(
            client,
            own.get_config_variable("ca_bundle"),
            self._patience_with(str(client.meta.endpoint_url)),
            requester_pays=options.requester_pays,
            verify=self.verify,
        )

    def session(self) -> Any:
        """Return a botocore session with the profile or the keys."""
        session = new_session(self.profile_name or None)
        if self.keys:
            session.set_credentials(*self.keys)
        return session

    def _client(self, session: Any, options: S3Options) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        check_variables()
        region = options.region_name or self.region_name
        endpoint = options.endpoint_url or self.endpoint_url
        # As dagster-aws's S3Resource does.
        config = Config(retries={"max_attempts": self.max_attempts, "mode": "standard"})
        if options.addressing_style != "auto":
            config = config.merge(Config(s3={"addressing_style": options.addressing_style}))
        role = None
        if options.role_arn:  # its keys expire within the hour, and are renewed
            role = Role(options.role_arn, options.external_id, region)
        elif not self.is_signed:
            config = config.merge(Config(signature_version=UNSIGNED))
        return create_client(
            session,
            "s3",
            self._patience_with("credentials"),
            role,
            region_name=region or None,
            endpoint_url=endpoint or None,
            config=config,
            use_ssl=self.use_ssl,
            verify=None if self.verify else False,
        )

    def _patience_with(self, service: str) -> Patience:
        return self._patience.get(service, lambda: Patience(self.answer_seconds))


def _request_payer(request: Any, **_: object) -> None:
    request.headers["x-amz-request-payer"] = "requester"


@dataclass(frozen=True)
class S3Bucket(ListedBucket):
    """One S3 bucket; implements ``Bucket``."""

    name: str
    transport: FastListTransport = field(repr=False)
    writing: Writing = DEFAULT_WRITING
    scheme: str = "s3"

    @property
    def client(self) -> Any:
        return self.transport.client

    @property
    def region(self) -> str:
        return str(self.client.meta.region_name or "")

    def _list(self, prefix: str, after: str, token: str, limit: int) -> ListingPage:
        position = {"StartAfter": after, "ContinuationToken": token}
        with _translated(self.uri()):
            page = self.transport.list(
                Bucket=self.name,
                Prefix=prefix,
                MaxKeys=limit,
                **{name: position[name] for name in position if position[name]},
            )
        if page is None:
            raise self._no_listing()
        return page._replace(read=partial(self._read, page.read))

    def _read(self, read: Callable[[], list[StoredObject]]) -> list[StoredObject]:
        try:
            return read()
        except ValueError as error:
            raise self._no_listing(f" ({one_line(error)})") from error

    def _no_listing(self, reason: str = "") -> BucketError:
        return BucketUnavailableError(
            self.uri(),
            f"the answer is not a complete listing{reason}.",
            hint="Check AWS_ENDPOINT_URL and the proxy, if any.",
        )

    def get(self, key: str, version: str = "") -> bytes:
        if version and (fast := self._fast_objects(key)):
            body = fast.get(key, version)
            if body is not None:
                return body
        with self._version(key, version):
            content: bytes = self._open(key, version).read()  # botocore detects a truncated body
        return content

    @contextmanager
    def _version(self, key: str, version: str) -> Iterator[None]:
        """Turn what botocore raises about a version of an object into our errors."""
        try:
            with self._object(key):
                yield
        except ObjectChangedError as error:
            if not version or self._listed_version(key) != version:
                raise
            raise ObjectRefusedError(
                self.uri(key),
                "the store lists it with another ETag than it delivers it with.",
                hint="Upload it again, or ask who runs the store.",
            ) from error

    @contextmanager
    def _object(self, key: str) -> Iterator[None]:
        """Turn what botocore raises about an object into our errors.

        S3 answers "access denied" for an absent object if the credentials may list one folder only.
        """
        store = S3._replace(name=f"S3 at {self.transport.address}")
        try:
            with _translated(self.uri(key), store):
                yield
        except BucketAccessError as error:
            if self._is_gone(key):
                raise ObjectNotFoundError(self.uri(key)) from error
            raise

    def _listed_version(self, key: str) -> str:
        """Return an object's version in a listing; empty if it can't be listed."""
        try:
            return self.version(key)
        except BucketError:
            return ""

    def _is_gone(self, key: str) -> bool:
        try:
            return all(stored.key != key for stored in next(self.pages(key), []))
        except BucketError:
            return False

    def _fast_objects(self, key: str) -> FastObjects | None:
        with _translated(self.uri(key)):
            return self.transport.objects(self.name)

    def download(self, stored: StoredObject, file: BinaryIO) -> None:
        with self._version(stored.key, stored.version):
            file.writelines(self._open(stored.key, stored.version).iter_chunks(CHUNK))

    def _open(self, key: str, version: str) -> Any:
        match = {"IfMatch": f'"{version}"'} if version else {}
        answer = self.client.get_object(Bucket=self.name, Key=key, **match)
        current = version_of(answer.get("ETag", ""))
        if current and current == (version or current):
            return answer["Body"]
        answer["Body"].close()
        if current and version and self._head_version(key) not in {"", version}:
            raise ObjectChangedError(self.uri(key))  # the store ignored the condition
        # An error with status 200, or a proxy's page.
        raise BucketUnavailableError(
            self.uri(key), "the answer is not this object.", hint="Try again."
        )

    def _head_version(self, key: str) -> str:
        """Return an object's current version; empty if the answer has none."""
        tag: str = self.client.head_object(Bucket=self.name, Key=key).get("ETag", "")
        return version_of(tag)

    def put(
        self, key: str, body: bytes, content_type: str, if_version: str | None = None
    ) -> StoredObject:
        if_version = if_version if self.transport.has_conditions else None
        fast = self._fast_writing(key)
        if fast and (version := fast.put(key, body, content_type, if_version)):
            return StoredObject(key, version, len(body))
        try:
            stored = self._put(key, body, content_type, if_version)
        except ObjectChangedError:
            stored = self._find_written(key, body)
        if fast and stored.version != md5(body):
            fast.give_up()  # no version is an MD5 there: each object would be written twice
        return stored

    def _put(
        self, key: str, body: bytes, content_type: str, if_version: str | None
    ) -> StoredObject:
        """Write an object with botocore."""
        options = {"ContentType": content_type, **_condition(if_version), **self.writing.encryption}

        def write(kind: str) -> tuple[Any, str]:
            sent = checksum_of(kind, body)
            with _translated(self.uri(key)):
                answer = self.client.put_object(
                    Bucket=self.name, Key=key, Body=body, **sent, **options
                )
            return answer, sent.get("ChecksumSHA256", "")

        try:
            answer, checksum = self._with_checksum(write)
        except ObjectNotFoundError as error:  # the version to replace is gone
            raise ObjectChangedError(self.uri(key)) from error
        except ObjectRefusedError as error:
            if if_version is None or error_code(error) != "NotImplemented":
                raise
            stored = self.put(key, body, content_type)
            self.transport.has_conditions = False
            return stored
        version = version_of(answer.get("ETag", "")) or self._listed_version(key)
        confirmed = answer.get("ChecksumSHA256")
        if not version or not (
            confirmed == checksum if checksum and confirmed else self._holds(key, body, version)
        ):
            raise self._not_confirmed(key)
        self._check_encryption(key, answer)
        return StoredObject(key, version, len(body))

    def _with_checksum(self, write: Callable[[str], Written]) -> Written:
        """Return what ``write`` returns for a kind of checksum that the store does not refuse.

        If several are tried, the store's later writes begin with the one that worked.
        """
        if self.writing.checksum != "auto":
            return write(self.writing.checksum)
        return self._try_checksums(CHECKSUMS[CHECKSUMS.index(self.transport.checksum) :], write)

    def _try_checksums(self, kinds: Sequence[str], write: Callable[[str], Written]) -> Written:
        try:
            written = write(kinds[0])
        except (ObjectRefusedError, BucketAccessError) as error:
            if not (kinds[1:] and _may_be_checksum(error)):
                raise
            try:
                return self._try_checksums(kinds[1:], write)
            except (ObjectRefusedError, BucketAccessError):
                raise error from error.__cause__
        self.transport.checksum = kinds[0]
        return written

    def _fast_writing(self, key: str) -> FastObjects | None:
        kind = self.transport.checksum if self.writing.checksum == "auto" else self.writing.checksum
        if self.writing.encryption or kind == "md5":
            return None
        with _translated(self.uri(key)):
            return self.transport.objects(self.name, kind)

    def _check_encryption(self, key: str, answer: Mapping[str, Any]) -> None:
        kind = self.writing.encryption.get("ServerSideEncryption")
        if kind and answer.get("ServerSideEncryption") != kind:
            raise BucketError(
                self.uri(key),
                f"the store wrote it without encrypting it as the params say ({kind}).",
                hint="Use a store that can, or leave kms_key_id and server_side_encryption out.",
            )

    def put_file(self, key: str, file: Path, content_type: str) -> StoredObject:
        size = file.stat().st_size
        if size <= PART:
            return self.put(key, file.read_bytes(), content_type)
        kind = self._with_checksum(lambda kind: self._upload(key, file, content_type, kind))
        if self.writing.encryption:
            with _translated(self.uri(key)):
                head = self.client.head_object(Bucket=self.name, Key=key)
            self._check_encryption(key, head)
        stored = self.find(key)
        if stored is None or stored.size != size:
            raise self._not_confirmed(key)
        if kind != "sha256" and not self._holds_file(stored, file):
            raise self._not_confirmed(key)
        return stored

    def _upload(self, key: str, file: Path, content_type: str, kind: str) -> str:
        """Upload a file in parts with a kind of checksum; return the kind."""
        from boto3.s3.transfer import TransferConfig
        from s3transfer.manager import TransferManager

        # The store refuses a part that does not match its checksum.
        options = {"ContentType": content_type, **checksum_of_parts(kind)}
        config = TransferConfig(multipart_chunksize=PART)
        with _translated(self.uri(key)), TransferManager(self.client, config) as manager:
            manager.upload(str(file), self.name, key, options | self.writing.encryption).result()
        return kind

    def _holds_file(self, stored: StoredObject, file: Path) -> bool:
        """Return whether a store that was sent no checksum holds a file's bytes."""
        if stored.version == multipart_version(file, PART):
            return True
        with TemporaryFile() as copy, file.open("rb") as original:
            self.download(stored, copy)
            copy.seek(0)
            return same_bytes(copy, original, CHUNK)

    def copy(self, key: str, to: str, *, source: Bucket | None = None, version: str = "") -> None:
        origin = source or self
        match = {"CopySourceIfMatch": f'"{version}"'} if version else {}
        with self._object(key) if source is None else _translated(source.uri(key)):
            self.client.copy_object(
                Bucket=self.name,
                Key=to,
                CopySource={"Bucket": origin.name, "Key": key},
                **match,
                **self.writing.encryption,
            )
        if version and origin.version(key) != version:  # some stores ignore the condition
            raise ObjectChangedError(origin.uri(key))

    def checksum(self, stored: StoredObject) -> str:
        return stored.version

    def _not_confirmed(self, key: str) -> BucketError:
        return BucketUnavailableError(
            self.uri(key), "the store did not confirm the upload.", hint="Try again."
        )

    def delete(self, key: str) -> None:
        with _translated(self.uri(key)):
            self.client.delete_object(Bucket=self.name, Key=key)

    def check_notifications(self, destination: str, folder: str) -> NotificationCheck:
        with _translated(self.uri()):
            configuration = self.client.get_bucket_notification_configuration(Bucket=self.name)
        return check_s3_notifications(configuration, destination, folder)

    def _holds(self, key: str, body: bytes, version: str) -> bool:
        """Return whether a store that returns no checksum holds these bytes.

        Usually its ETag is their MD5. If it is not, as for an encrypted object, read them back.
        """
        return version == md5(body) or self.get(key, version) == body


def _may_be_checksum(error: BucketError) -> bool:
    """Return whether a store may have refused a write for its checksum: some name no reason.

    If a proxy drops the checksum's header, the signature does not match.
    """
    code = error_code(error)
    is_refusal = isinstance(error, ObjectRefusedError) or code == "SignatureDoesNotMatch"
    return is_refusal and not code.lower().startswith("kms")


def _condition(version: str | None) -> dict[str, str]:
    """Return a put's condition on the object that it replaces.

    The version is not quoted: Ceph compares it with its own letter by letter.
    """
    if version is None:
        return {}
    return {"IfMatch": version} if version else {"IfNoneMatch": "*"}


@contextmanager
def _translated(place: str, service: Service = S3) -> Iterator[None]:
    """Turn what botocore raises into our errors about a bucket or an object."""
    try:
        yield
    except handled() as error:
        found = failure(error, service)
        raise bucket_error(place, found) from cause_of(error, found)

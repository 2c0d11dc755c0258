"""What a connection is: its source and its target, typed and described."""

# No `from __future__ import annotations`: pydantic reads the annotations.
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator, model_validator

from ls_pipeline.domain.objects import uri
from ls_pipeline.settings import addresses
from ls_pipeline.settings.params import S3_ONLY, Frozen, Params, SourceParams, TargetParams

if TYPE_CHECKING:
    from typing_extensions import Self

TITLE_LENGTHS = range(3, 51)
"""Label Studio refuses other project titles (PROJECT_TITLE_MIN_LEN, …_MAX_LEN)."""


class _Side(Frozen):
    path: str
    """Name of the bucket, or the ARN of an S3 access point."""
    params: Params

    side: ClassVar[str]

    @field_validator("path")
    @classmethod
    def _is_bucket(cls, path: str) -> str:
        return addresses.bucket_name(path)

    @model_validator(mode="after")
    def _fits_the_cloud(self) -> "Self":
        if self.cloud != "s3":
            if ":" in self.path:
                raise ValueError(f"path {self.path!r} is not the name of a bucket on GCS")
            defaults = {
                name: field.default for name, field in type(self.params).model_fields.items()
            }
            for name in S3_ONLY:
                if getattr(self.params, name, None) != defaults.get(name):
                    raise ValueError(f"param {name!r} is for S3 only; leave it out")
        if self.params.external_id and not self.params.role_arn:
            raise ValueError("param 'external_id' needs role_arn")
        return self

    @property
    @abstractmethod
    def cloud(self) -> str:
        """``s3`` or ``gcs``."""

    @property
    def store(self) -> tuple[str, str]:
        """The store that has the bucket: two may have buckets of the same name."""
        return self.cloud, self.params.endpoint_url

    @property
    def root(self) -> str:
        """The bucket's URI."""
        return uri("s3" if self.cloud == "s3" else "gs", self.path, "")


class Source(_Side):
    """Where tasks come from."""

    type: Literal["s3", "gcs"]
    """The cloud."""
    params: SourceParams = SourceParams()
    """Which objects are read, and how."""

    side = "source"

    @model_validator(mode="after")
    def _names_a_queue(self) -> "Self":
        form, words = addresses.QUEUES[self.cloud]
        queue = self.params.notifications
        if queue and not form.fullmatch(queue):
            raise ValueError(f"param 'notifications' {queue!r} is not {words}")
        return self

    @property
    def media(self) -> "list[Source]":
        """The buckets besides this one that tasks name; those of its cloud are reached as it is."""
        named = (addresses.media_bucket(each, self.type) for each in self.params.media_buckets)
        return [
            self.model_copy(update={"path": name})
            if cloud == self.type
            else Source(type="s3" if cloud == "s3" else "gcs", path=name)
            for cloud, name in dict.fromkeys(named)
            if (cloud, name) != (self.type, self.path)
        ]

    @property
    def cloud(self) -> str:
        return self.type


class Target(_Side):
    """Where completions go."""

    type: Literal["s3-completions", "gcs-completions"]
    """The cloud."""
    params: TargetParams = TargetParams()
    """How completions and training data are written."""

    side = "target"

    @property
    def cloud(self) -> str:
        return self.type.removesuffix("-completions")

    def uri(self, key: str) -> str:
        """Return the URI of an object in the target."""
        return self.root + key


class Connection(Frozen):
    """A source, a target, or both, paired with one Label Studio project."""

    name: str
    source: Source | None = None
    target: Target | None = None
    project: str
    """Title of the Label Studio project; made if absent."""
    label_config: str = ""
    """XML label config of a new project."""
    enabled: bool = True
    """False: sensors and runs ignore it."""

    @property
    def media_sides(self) -> list[Source | Target]:
        """The buckets that tasks' media may be in: those of both sides, and the media buckets."""
        media = self.source.media if self.source else []
        return [side for side in (self.source, self.target, *media) if side]

    def title(self, number: int) -> str:
        """Return the title that the connection's first, second, … project gets."""
        suffix = f" ({number})" if number > 1 else ""
        return self.project[: TITLE_LENGTHS[-1] - len(suffix)] + suffix

"""The params of a source and of a target, typed and described."""

# No `from __future__ import annotations`: pydantic reads the annotations.
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import re2
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ls_pipeline.domain.objects import Filter, compile_regex
from ls_pipeline.domain.snapshot.folders import FOLDERS
from ls_pipeline.domain.snapshot.formats import FORMATS, Annotations
from ls_pipeline.domain.snapshot.splits import SplitRule, group_by_error
from ls_pipeline.domain.text import is_text
from ls_pipeline.settings import addresses

if TYPE_CHECKING:
    from typing_extensions import Self

MOST = 2**31 - 1
MOST_DAYS = 36_500
MOST_MINUTES = MOST_DAYS * 24 * 60
"""A hundred years: Python can't count back from today much further."""


class Frozen(BaseModel):
    """Settings; the text below a field is its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, str) and not is_text(value):
            raise ValueError("text has a NUL, or half of a surrogate pair")
        return value

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():  # one line each
            field.description = " ".join((field.description or "").split()) or None
        cls.model_rebuild(force=True)


class Params(Frozen):
    """The settings that source and target share; they may change at any time.

    Those that begin with "S3:" are for S3 only. AWS's own configuration supplies those that are
    empty.
    """

    prefix: str = ""
    """Folder in the bucket, as in images. images and images/ both mean images/…; empty means the
    whole bucket."""
    regex: str = ""
    """RE2 expression that the full object key matches from its start, as in .*[.]jpg; empty selects
    every object."""
    exclude: str = ""
    """RE2 expression for keys to leave out, matched like regex, as in .*/thumbnails/; empty leaves
    none out."""
    create_local_copy: bool = False
    """True: also keep a copy of these objects on disk, in the home."""
    run_hours_at_most: float = Field(default=12, gt=0, le=24)
    """Hours after which a run ends. The next run continues where it stopped."""
    endpoint_url: str = ""
    """S3: URL of a store other than Amazon S3, as in https://minio.example.com:9000; empty means
    AWS_ENDPOINT_URL."""
    region_name: str = ""
    """S3: region of the bucket, as in eu-central-1; empty means AWS_DEFAULT_REGION."""
    role_arn: str = ""
    """S3: ARN of a role to assume for this bucket, as in arn:aws:iam::123456789012:role/labels."""
    external_id: str = ""
    """S3: external id that the role's trust policy requires, as in labels-7; it is not a secret."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """S3: where requests name the bucket. path: in the URL's path. virtual: in the host's name, as
    some stores demand. auto: as AWS's own configuration says."""
    requester_pays: bool = False
    """True: the requests and downloads are paid by the credentials' own account, which such a
    bucket demands. GCS: by the project of GOOGLE_CLOUD_PROJECT or of the credentials."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @field_validator("regex", "exclude")
    @classmethod
    def _is_re2(cls, regex: str, info: ValidationInfo) -> str:
        try:
            compile_regex(regex)
        except re2.error as error:
            looks = ("(?!", "(?<!") if info.field_name == "regex" else ()
            has_look = any(look in regex for look in looks)
            advice = ". Write what to leave out into the param exclude" if has_look else ""
            what = f"{info.field_name} {regex!r} is not valid RE2: {_reason(error)}{advice}"
            raise ValueError(what) from None
        return regex

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return url and addresses.endpoint_url(url)

    @field_validator("role_arn")
    @classmethod
    def _is_role(cls, arn: str) -> str:
        return arn and addresses.role_arn(arn)

    @property
    def run_seconds(self) -> float:
        return self.run_hours_at_most * 3600

    @property
    def filter(self) -> Filter:
        return Filter(self.prefix, self.regex, self.exclude)


class SourceParams(Params):
    """How objects become tasks."""

    data_key: str = ""
    """Key of the task data that holds a blob's URL, or a text, as in image; empty means the first
    data key of the project's label config."""
    use_blob_urls: bool = False
    """True: each object is a blob, and its task shows its URL. False: each object holds tasks, in
    the form that format says."""
    format: Literal["auto", "json", "jsonl", "csv", "tsv", "parquet", "text"] = "auto"
    """Form of the objects. auto: by the suffix of the key, or by the content. text: each object is
    one task that shows its text. All may be compressed with gzip."""
    column_map: dict[str, str | None] = {}
    """CSV, TSV and Parquet: column → key of the task data, as in {"Body": "text", "id": ""}. A
    column that becomes an empty key or null is left out; others keep their names."""
    row_key: str = ""
    """Key of the task data that tells the rows of an object apart, as in id. If an object is
    replaced, its rows are found again by this key; without it, by their data, then by position."""
    sidecar_suffix: str = ""
    """What an object's sidecar has in place of its suffix, as in .json: cat.json is cat.jpg's.
    It is a JSON object with more of the task's data, or with data, predictions and annotations.
    Empty: objects have none."""
    manifest: str = ""
    """Key of an object that lists the keys that count, as in lists/march.txt: one a line, or JSON
    Lines with more of the tasks' data. Empty: all keys that prefix and regex select."""
    on_change: Literal["update", "new_task", "ignore"] = "update"
    """What to do if an object is replaced. update: update its task, unless it is labeled. new_task:
    make a new task and keep the old one. ignore: do nothing."""
    predictions_on_labeled: Literal["leave", "add"] = "leave"
    """What to do with the new predictions of a row whose task is labeled. leave: leave the task as
    it is. add: add them to those that the task has, if the row's data is the same."""
    on_delete: Literal["keep", "delete"] = "keep"
    """What to do with the tasks of a removed object. keep: keep them. delete: delete them, unless
    they are labeled."""
    tasks_per_project: int = Field(default=0, ge=0, le=MOST)
    """Number of tasks that fill a project. Further tasks go to an overflow project, as in Cats,
    Cats (2), Cats (3). 0: no limit. Label Studio's maintainers recommend about 100000."""
    notifications: str = ""
    """Queue of the bucket's notifications, to react within seconds. S3: URL of an SQS queue. GCS: a
    Pub/Sub subscription, as in projects/my-project/subscriptions/labels. Empty: polling only."""
    media_buckets: list[str] = []
    """Buckets besides the source's own that tasks name in s3:// and gs:// URLs, as in my-pictures
    or gs://my-pictures. Annotators can open their objects, too."""

    @field_validator("media_buckets")
    @classmethod
    def _are_buckets(cls, buckets: list[str]) -> list[str]:
        for bucket in buckets:
            addresses.media_bucket(bucket, "")
        return buckets

    @field_validator("sidecar_suffix")
    @classmethod
    def _ends_a_name(cls, suffix: str) -> str:
        if "/" in suffix:
            raise ValueError(f"sidecar_suffix {suffix!r} ends an object's name, as in .json")
        return suffix

    @field_validator("column_map")
    @classmethod
    def _has_a_key_for_each_column(cls, column_map: dict[str, str | None]) -> dict[str, str | None]:
        keys = [key for key in column_map.values() if key]
        if not all(map(is_text, [*column_map, *keys])):
            raise ValueError("column_map has text with a NUL, or half of a surrogate pair")
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"column_map makes {twice[0]!r} of more than one column")
        return column_map

    @model_validator(mode="after")
    def _has_sidecars_of_whole_objects(self) -> "Self":
        if self.sidecar_suffix and not self.fills_one_key:
            raise ValueError("sidecar_suffix needs use_blob_urls, or the format text")
        if self.sidecar_suffix and self.manifest:
            raise ValueError("set sidecar_suffix or manifest, not both")
        return self

    @property
    def filter(self) -> Filter:
        return replace(super().filter, sidecar_suffix=self.sidecar_suffix)

    @property
    def reading(self) -> str:
        """How objects are read; quarantined objects are retried if it changes."""
        if self.use_blob_urls:
            return f"blob {self.data_key}"
        if self.format == "text":
            return f"text {self.data_key}"
        columns = json.dumps(self.column_map, sort_keys=True) if self.column_map else ""
        return f"{self.format} {columns}".rstrip()

    @property
    def fills_one_key(self) -> bool:
        """Whether an object is one task, whose data has one key."""
        return self.use_blob_urls or self.format == "text"

    @property
    def adds_data(self) -> bool:
        """Whether a task may have more data than its object."""
        return bool(self.sidecar_suffix or self.manifest)

    @property
    def has_columns(self) -> bool:
        """Whether objects may be tables."""
        tables = {"auto", "csv", "tsv", "parquet"}
        return not self.use_blob_urls and self.format in tables

    @property
    def one_task_per_row(self) -> bool:
        """Whether the row of a replaced object keeps its task and gets no second one."""
        return self.on_change != "new_task"


class TargetParams(Params):
    """How completions are written; ``regex`` selects the keys that are written."""

    kms_key_id: str = ""
    """S3: KMS key (id, ARN or alias) that encrypts what is written, as in alias/labels; empty means
    the bucket's own setting."""
    server_side_encryption: Literal["", "AES256", "aws:kms"] = ""
    """S3: encryption to request for what is written, as a bucket's policy may demand. aws:kms: with
    kms_key_id, or else with AWS's own key. Empty means the bucket's own setting."""
    checksum: Literal["auto", "sha256", "md5", "none"] = "auto"
    """S3: checksum that is sent with what is written. auto: SHA-256, or what the store accepts
    instead if it refuses that. In every case, what was written is compared."""
    delete: bool = False
    """What to do with the file if its task or the task's last annotation is deleted. True: delete
    it. False: keep it, without annotations. True also deletes expired snapshots."""
    snapshot_minutes: int = Field(default=60, ge=0, le=MOST_MINUTES)
    """Training data: minimum minutes between snapshots. A snapshot is made only if completions
    changed."""
    snapshot_cron: str = ""
    """Training data: when to make a snapshot if completions changed, as in 0 6 * * 1-5 (UTC); empty
    means by snapshot_minutes."""
    snapshots_kept: int = Field(default=30, ge=1, le=MOST)
    """Training data: minimum number of snapshots to keep."""
    snapshots_kept_days: int = Field(default=30, ge=0, le=MOST_DAYS)
    """Training data: minimum days to keep every snapshot. Older snapshots are deleted only if
    delete is true."""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Training data: share of the validation split."""
    test_share: float = Field(default=0.1, ge=0, lt=1)
    """Training data: share of the test split."""
    group_by: str = ""
    """Training data: what keeps tasks in one split, as in data:patient.id: a value in their data.
    key:videos/([^/]+)/: keys of objects that match this RE2 expression with equal groups. row:
    nothing, not even that they are rows of one object. Empty: the object."""
    skipped_at_most: float = Field(default=0.2, ge=0, le=1)
    """Training data: warn if annotators skip more than this share."""
    agreement_at_least: float = Field(default=0.5, ge=0, le=1)
    """Training data: warn if annotators of the same tasks agree less than this."""
    labels_within_days: int = Field(default=7, ge=1, le=MOST_DAYS)
    """Warn if tasks are waiting and nothing was labeled for this many days."""
    formats: list[str] = []
    """Training data: other formats to convert each snapshot to, such as COCO, YOLO or CSV."""
    formats_annotations: Annotations = "all"
    """Training data: whose annotations to convert, if several people labeled a task."""
    formats_strict: bool = False
    """Training data: what to do if a format can't hold everything. True: the check formats_complete
    fails as an error. False: it warns."""

    folders: list[str] = []
    """Training data: formats to write each snapshot in as a folder with its pictures, by split:
    YOLO, YOLO_OBB or COCO."""

    @field_validator("snapshot_cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from croniter import croniter

        if cron and not croniter.is_valid(cron):
            raise ValueError(f"snapshot_cron {cron!r} is not a cron expression, as in 0 6 * * 1-5")
        return cron

    @field_validator("group_by")
    @classmethod
    def _is_group(cls, group_by: str) -> str:
        if error := group_by_error(group_by):
            raise ValueError(error)
        return group_by

    @field_validator("formats")
    @classmethod
    def _are_formats(cls, formats: list[str]) -> list[str]:
        return _known("format", formats, FORMATS)

    @field_validator("folders")
    @classmethod
    def _are_folders(cls, folders: list[str]) -> list[str]:
        return _known("folder", folders, FOLDERS)

    @model_validator(mode="after")
    def _leaves_training_data(self) -> "Self":
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _encrypts_in_one_way(self) -> "Self":
        if self.kms_key_id and self.server_side_encryption == "AES256":
            raise ValueError("kms_key_id has no effect with AES256; leave one of them out")
        return self

    @property
    def split_rule(self) -> SplitRule:
        return SplitRule(self.validation_share, self.test_share, self.group_by)


S3_ONLY = (
    "endpoint_url",
    "region_name",
    "role_arn",
    "external_id",
    "addressing_style",
    "kms_key_id",
    "server_side_encryption",
    "checksum",
)
"""Params that have no meaning on GCS."""


def _known(noun: str, names: list[str], known: Collection[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise ValueError(f"{noun} {name!r} is not one of {', '.join(known)}")
    return names


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)

"""What a connection is: typed, described, and checked once, all errors together."""

# No `from __future__ import annotations`: pydantic reads the annotations.
import difflib
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import re2
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ls_pipeline.domain.errors import InvalidConnectionError, NotATaskError
from ls_pipeline.domain.objects import Filter, compile_regex, overlap, uri
from ls_pipeline.domain.snapshot.formats import FORMATS
from ls_pipeline.domain.snapshot.splits import Shares
from ls_pipeline.domain.tasks import data_keys

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
TITLE_LENGTHS = range(3, 51)
"""Label Studio refuses other project titles (PROJECT_TITLE_MIN_LEN, …_MAX_LEN)."""

PREFIX = "Folder in the bucket: images and images/ both mean images/…; empty is the whole bucket."
REGEX = "RE2 expression, matched from the start of the full object key; empty takes every object."


SECRETS = re.compile(r"secret|password|token|credential|access_key|api_key", re.IGNORECASE)
"""Of a param's name: what a person would put a secret under."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Params(_Frozen):
    """What may change while running, for source and target alike.

    ``endpoint_url``, ``region_name``, ``role_arn`` and ``external_id`` are for S3 alone; what
    is empty is found as every AWS tool finds it.
    """

    prefix: str = Field(default="", description=PREFIX)
    regex: str = Field(default="", description=REGEX)
    create_local_copy: bool = Field(
        default=False,
        description="True: keep a copy of these objects in a folder below the home.",
    )
    endpoint_url: str = Field(
        default="", description="S3: another store than Amazon's; empty means AWS_ENDPOINT_URL."
    )
    region_name: str = Field(
        default="", description="S3: the bucket's region; empty means AWS_DEFAULT_REGION."
    )
    role_arn: str = Field(default="", description="S3: a role to take on for this bucket.")
    external_id: str = Field(
        default="", description="S3: what the role's owner asks for besides; no secret."
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: value for name, value in given.items() if value is not None}
        return given

    @field_validator("regex")
    @classmethod
    def _is_re2(cls, regex: str) -> str:
        try:
            compile_regex(regex)
        except re2.error as error:
            raise ValueError(f"regex {regex!r} is not RE2: {_reason(error)}") from None
        return regex

    @field_validator("endpoint_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^/@\s?#]+/?", url):
            raise ValueError(
                "endpoint_url is an address without path or credentials, as in "
                "https://s3.example.com"
            )
        return url

    @field_validator("role_arn")
    @classmethod
    def _is_a_role(cls, arn: str) -> str:
        if arn and not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+", arn):
            raise ValueError(
                f"role_arn {arn!r} is no role, as in arn:aws:iam::123456789012:role/labels"
            )
        return arn

    @property
    def filter(self) -> Filter:
        return Filter(self.prefix, self.regex)


class SourceParams(Params):
    """How objects become tasks."""

    data_key: str = Field(
        default="",
        description="The key of task data that takes a blob's URL; empty means the first data "
        "key of the project's label config.",
    )
    use_blob_urls: bool = Field(
        default=False,
        description="True: each object is a blob, shown by its URL. False: each object holds "
        "tasks as JSON.",
    )
    on_change: Literal["update", "new_task", "ignore"] = Field(
        default="update",
        description="A replaced object updates its task unless it is labeled, becomes a new "
        "task beside the old one, or is ignored.",
    )
    on_delete: Literal["keep", "delete"] = Field(
        default="keep",
        description="The tasks of a removed object are kept, or deleted unless they are labeled.",
    )
    tasks_per_project: int = Field(
        default=0,
        ge=0,
        description="A project with so many tasks is full: new ones go to a further one, as in "
        "Cats, Cats (2), Cats (3). 0: no project is ever full. Label Studio's maintainers advise "
        "about 100000.",
    )
    notifications: str = Field(
        default="",
        description="Where the bucket's notifications wait, for seconds instead of polls. S3: an "
        "SQS queue's URL. GCS: a Pub/Sub subscription, projects/P/subscriptions/S.",
    )

    @property
    def reading(self) -> str:
        """Give what decides how an object is read; quarantine holds under one such alone."""
        return f"blob {self.data_key}" if self.use_blob_urls else "json"

    @property
    def one_task_per_row(self) -> bool:
        """Tell whether a replaced object gets no new task beside the old one."""
        return self.on_change != "new_task"


class TargetParams(Params):
    """Where completions go; ``regex`` selects the keys that are written."""

    kms_key_id: str = Field(
        default="",
        description="S3: the KMS key (id, ARN or alias) that encrypts what is written; empty "
        "means the bucket's own setting.",
    )
    delete: bool = Field(
        default=False,
        description="What becomes of the file when a task or its last annotation is deleted. "
        "True: it is deleted; false: it stays, without annotations. True also lets old snapshots "
        "go.",
    )
    snapshot_minutes: int = Field(
        default=60,
        ge=0,
        description="Training data: when completions changed, a snapshot follows, at most one in "
        "so many minutes.",
    )
    snapshot_cron: str = Field(
        default="",
        description="Training data: when to make a snapshot if completions changed, as in "
        "0 6 * * 1-5 (UTC); empty means by snapshot_minutes.",
    )
    snapshots_kept: int = Field(
        default=30, ge=1, description="Training data: keep at least so many snapshots."
    )
    snapshots_kept_days: int = Field(
        default=30,
        ge=0,
        description="Training data: keep all snapshots for so many days. Older ones go only "
        "where delete is true.",
    )
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="Training data: the share of the validation split."
    )
    test_share: float = Field(
        default=0.1, ge=0, lt=1, description="Training data: the share of the test split."
    )
    skipped_at_most: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Training data: warn when annotators skipped a greater share.",
    )
    agreement_at_least: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Training data: warn when annotators of the same tasks agree less.",
    )
    labels_within_days: int = Field(
        default=7,
        ge=1,
        description="Warn when tasks wait for labels, and none came for so many days.",
    )
    formats: list[str] = Field(
        default=[],
        description="Training data: what each snapshot is also converted to, as in COCO, YOLO, "
        "VOC, CONLL2003, CSV.",
    )

    @field_validator("snapshot_cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from croniter import croniter

        if cron and not croniter.is_valid(cron):
            raise ValueError(f"snapshot_cron {cron!r} is no cron expression, as in 0 6 * * 1-5")
        return cron

    @field_validator("formats")
    @classmethod
    def _are_formats(cls, formats: list[str]) -> list[str]:
        unknown = [one for one in formats if one not in FORMATS]
        if unknown:
            raise ValueError(f"format {unknown[0]!r} is none of {', '.join(FORMATS)}")
        return formats

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> "Self":
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self

    @property
    def shares(self) -> Shares:
        return Shares(self.validation_share, self.test_share)


S3_ONLY = ("endpoint_url", "region_name", "role_arn", "external_id", "kms_key_id")
"""Params that have no meaning on GCS."""


class _Place(_Frozen):
    path: str = Field(description="The bucket's name.")
    params: Params

    @field_validator("path")
    @classmethod
    def _is_a_bucket(cls, path: str) -> str:
        if not path or "/" in path:
            raise ValueError(
                f"path is the bucket's name alone, as in my-bucket; {path!r} is not; a folder "
                "goes into the prefix param"
            )
        return path

    @model_validator(mode="after")
    def _fits_the_cloud(self) -> "Self":
        if self.cloud != "s3":
            for name in S3_ONLY:
                if getattr(self.params, name, ""):
                    raise ValueError(f"param {name!r} is for S3 alone; leave it out")
        if self.params.external_id and not self.params.role_arn:
            raise ValueError("param 'external_id' goes with role_arn")
        return self

    @property
    @abstractmethod
    def cloud(self) -> str:
        """``s3`` or ``gcs``."""

    @property
    def root(self) -> str:
        """Give the bucket's URI."""
        return uri("s3" if self.cloud == "s3" else "gs", self.path, "")


QUEUES = {
    "s3": (
        re.compile(r"https?://[^/@\s?#]+/[^@\s?#]*[^@\s?#/]"),
        "an SQS queue's URL, as in https://sqs.eu-west-1.amazonaws.com/123456789012/labels",
    ),
    "gcs": (
        re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+"),
        "a Pub/Sub subscription, as in projects/my-project/subscriptions/labels",
    ),
}
"""How a queue of notifications is named on each cloud: the form, and in words."""


class Source(_Place):
    """Where tasks come from."""

    type: Literal["s3", "gcs"] = Field(description="The cloud.")
    params: SourceParams = SourceParams()

    side: ClassVar = "source"

    @model_validator(mode="after")
    def _names_a_queue(self) -> "Self":
        form, words = QUEUES[self.cloud]
        named = self.params.notifications
        if named and not form.fullmatch(named):
            raise ValueError(f"param 'notifications' {named!r} is not {words}")
        return self

    @property
    def cloud(self) -> str:
        return self.type


class Target(_Place):
    """Where completions go."""

    type: Literal["s3-completions", "gcs-completions"] = Field(description="The cloud.")
    params: TargetParams = TargetParams()

    side: ClassVar = "target"

    @property
    def cloud(self) -> str:
        return self.type.removesuffix("-completions")

    def uri(self, key: str) -> str:
        """Give the URI of an object in the target."""
        return self.root + key


class Connection(_Frozen):
    """One named pairing of a source and/or a target with one Label Studio project."""

    name: str
    source: Source | None = None
    target: Target | None = None
    project: str = Field(description="The Label Studio project's title; made if absent.")
    label_config: str = Field(default="", description="What a new project is made with: XML.")
    enabled: bool = Field(default=True, description="False: no sensor and no pass works on it.")

    def title(self, number: int) -> str:
        """Give the title of the connection's first, second, … project, as it is made."""
        behind = f" ({number})" if number > 1 else ""
        return self.project[: TITLE_LENGTHS[-1] - len(behind)] + behind


def connection(  # noqa: PLR0913 - one for each part of a connection
    name: str,
    *,
    source: Mapping[str, Any] | None,
    target: Mapping[str, Any] | None,
    project: str,
    label_config: str = "",
    enabled: bool = True,
    errors: Sequence[str] = (),
) -> Connection:
    """Check a connection as a person gave it; ``errors`` are those found on the way here.

    ``source`` and ``target`` are ``{"type": …, "path": …, "params": {…}}``.

    Raises ``InvalidConnectionError`` with every error.
    """
    found = list(errors)
    checked_source = _part(Source, "source", source, found)
    checked_target = _part(Target, "target", target, found)
    found += _name_errors(name)
    found += _project_errors(project, label_config)
    if source is None and target is None:
        found.append("It has neither a source nor a target; give at least one.")
    if checked_source and checked_target:
        found += _overlap_errors(checked_source, checked_target)
    found += _useless(checked_source, checked_target)
    if checked_source and label_config:
        found += data_key_errors(checked_source.params, label_config)
    if found:
        raise InvalidConnectionError(name, found)
    return Connection(
        name=name,
        source=checked_source,
        target=checked_target,
        project=project,
        label_config=label_config,
        enabled=enabled,
    )


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting of a connection that a revision changes; ``setting`` is dotted."""

    setting: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.setting}: {self.before!r} → {self.after!r}"


def changes(before: Connection | None, after: Connection) -> list[SettingChange]:
    """List the settings in which two revisions of a connection differ."""
    old = dict(_flat(before.model_dump(mode="json"))) if before else {}
    new = dict(_flat(after.model_dump(mode="json")))
    names = dict.fromkeys([*old, *new])
    return [
        SettingChange(name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


def _flat(document: Mapping[str, Any], root: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{root}{name}.")
        else:
            yield root + name, value


def revised(name: str, side: str, before: Connection | None, form: Mapping[str, Any]) -> Connection:
    """Give a connection with a form filled in for its ``source`` or ``target``.

    The form is flat: ``type`` (``none`` takes the side away), ``path``, the params, and of the
    whole connection ``project``, ``label_config`` and ``enabled``. What it leaves out stays.

    Raises ``InvalidConnectionError`` with every error.
    """
    form = dict(form)
    document: dict[str, Any] = before.model_dump(mode="json") if before else {"project": name}
    part = document.get(side) or {"type": "none", "path": "", "params": {}}
    for setting in ("project", "label_config", "enabled"):
        document[setting] = form.pop(setting, document.get(setting, _default(setting)))
    for setting in ("type", "path"):
        part[setting] = form.pop(setting, part[setting])
    part["params"] |= form
    document[side] = None if part["type"] == "none" else part
    return connection(**{"source": None, "target": None, **document, "name": name})


def _default(setting: str) -> Any:
    return Connection.model_fields[setting].default


def params_from_json(option: str, text: str, errors: list[str]) -> Any:
    """Read an option's JSON object; add what is wrong with it to ``errors``."""
    try:
        params = json.loads(text)
    except ValueError as error:
        errors.append(f"{option} is not JSON: {error}.")
        return {}
    if not isinstance(params, dict):
        errors.append(f'{option} is a JSON object, as in {{"prefix": "images"}}.')
        return {}
    return params


PartT = TypeVar("PartT", Source, Target)


def _part(
    model: type[PartT], side: str, given: Mapping[str, Any] | None, errors: list[str]
) -> PartT | None:
    if given is None:
        return None
    try:
        part = model.model_validate(given)
    except ValidationError as error:
        errors += [_sentence(model, side, one) for one in error.errors()]
        return None
    return part


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _sentence(model: type[Source | Target], side: str, error: Any) -> str:
    """Say what pydantic found, in the words of the command line."""
    field = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "value_error":
        return f"The {side} {error['ctx']['error']}."
    if error["type"] == "extra_forbidden":
        return _unknown_param(model, side, field)
    given = json.dumps(error["input"], default=str)
    param = " param" if "params" in error["loc"] else ""
    wanted = {
        "bool_type": "true or false",
        "string_type": "a string",
        "literal_error": error.get("ctx", {}).get("expected"),
    }.get(error["type"])
    if wanted:
        return f"The {side}{param} {field!r} is {wanted}, not {given}."
    return f"The {side} {field} {given}: {error['msg']}."


def _unknown_param(model: type[Source | Target], side: str, field: str) -> str:
    if SECRETS.search(field):
        return (
            f"There is no {side} param {field!r}: credentials are no settings; give them in the "
            "environment, as AWS_ACCESS_KEY_ID and so on, or use role_arn."
        )
    known = list(model.model_fields["params"].annotation.model_fields)  # type: ignore[union-attr]
    close = difflib.get_close_matches(field, known, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"There is no {side} param {field!r}{hint}; there are: {', '.join(known)}."


def _name_errors(name: str) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield "A name has 1 to 63 letters, digits, - and _, and begins with a letter or digit."


def _project_errors(project: str, label_config: str) -> Iterator[str]:
    if len(project) not in TITLE_LENGTHS:
        yield (
            f"A Label Studio project's title has {TITLE_LENGTHS[0]} to {TITLE_LENGTHS[-1]} "
            f"characters; {project!r} has {len(project)}."
        )
    if label_config:
        try:
            if not data_keys(label_config):
                yield 'The label config shows no data; it needs a tag like <Text value="$text"/>.'
        except NotATaskError as error:
            yield str(error)


def _useless(source: Source | None, target: Target | None) -> Iterator[str]:
    """Say what nobody wants, though one that is stored may have it: it must stay readable."""
    from croniter import CroniterBadDateError, croniter

    if source and source.params.notifications.endswith(".fifo"):
        yield f"S3 tells no FIFO queue: {source.params.notifications} will never hear of anything."
    if target and (cron := target.params.snapshot_cron):
        try:
            croniter(cron).get_next()
        except CroniterBadDateError:
            yield f"The target's snapshot_cron {cron!r} names a moment that never comes."


def _overlap_errors(source: Source, target: Target) -> Iterator[str]:
    one_bucket = source.root == target.root
    one, other = source.params.endpoint_url, target.params.endpoint_url
    two_stores = one and other and one != other
    if one_bucket and not two_stores and overlap(source.params.prefix, target.params.prefix):
        yield (
            f"Source and target overlap in bucket {source.path!r}: exports would come back as "
            "tasks; give each its own prefix, neither inside the other."
        )


def data_key_errors(params: SourceParams, label_config: str) -> Iterator[str]:
    """Say where a label config shows other data than these params fill."""
    try:
        keys = data_keys(label_config)
    except NotATaskError:
        return  # said already
    shown = ", ".join(map(repr, keys))
    if params.data_key and keys and params.data_key not in keys:
        yield f"The label config does not show data_key {params.data_key!r}; it shows {shown}."
    if params.use_blob_urls and len(keys) > 1:
        yield (
            f"A blob fills one data key, and the label config shows {shown}; use JSON tasks, or "
            "a label config with one."
        )

"""Label Studio's answers: of each document, the fields that are read, with their types."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ls_pipeline.domain.moments import Moment
from ls_pipeline.domain.text import is_text

Id = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


def _check_text(value: str) -> str:
    if not is_text(value):
        raise ValueError("text has a NUL, or half of a surrogate pair")
    return value


Text = Annotated[str, AfterValidator(_check_text)]
"""A text that every database takes."""


class _Answer(BaseModel):
    """An object of an answer; fields that are not read may be anything."""

    model_config = ConfigDict(strict=True, frozen=True)


T = TypeVar("T")


class Results(_Answer, Generic[T]):
    """A page of objects; ``next`` is where the next page is, if there is one."""

    results: list[T]
    next: str | None = None


class ProjectRow(_Answer):
    """A project, in few fields."""

    id: Id
    title: Text | None
    label_config: Text | None
    task_number: Count | None
    created_at: Text


class Settings(_Answer):
    """Settings of a project: all of them are in `model_extra`."""

    model_config = ConfigDict(extra="allow")


class ProjectCounts(_Answer):
    """How many annotations a project has."""

    id: Id
    total_annotations_number: Count | None
    skipped_annotations_number: Count | None


class TaskPage(_Answer, Generic[T]):
    """A page of tasks, and how many there are on all pages."""

    tasks: list[T]
    total: Count


class TaskRow(_Answer):
    """A task; the classes below have more of its fields."""

    id: Id


class TaskMeta(TaskRow):
    """A task and its ``meta``, which people may have written."""

    meta: Any = None


class TaskTime(TaskRow):
    """A task, and when it was changed."""

    updated_at: Moment = Field(min_length=1)


class TaskCounts(TaskMeta, TaskTime):
    """A task, and how many finished annotations it has."""

    total_annotations: Count | None
    cancelled_annotations: Count | None


class WholeTask(TaskTime):
    """A task with everything in it; `model_extra` has the fields that people fill."""

    model_config = ConfigDict(extra="allow")

    @property
    def document(self) -> dict[str, Any]:
        return {**(self.model_extra or {}), "id": self.id, "updated_at": self.updated_at}


class Imported(_Answer):
    """What an import made. The Enterprise edition names no tasks."""

    task_ids: list[Id] | None = None
    annotation_count: Count | None = None
    prediction_count: Count | None = None


class Version(_Answer):
    """The version of the server."""

    release: Text


class User(_Answer):
    """The user of the API key."""

    email: Text


class Member(_Answer):
    """A user of the organization."""

    id: Id
    email: Text


class Webhook(_Answer):
    """A webhook, ours or another."""

    id: Id
    url: str
    project: Id | None = None
    headers: dict[str, Text] = Field(default_factory=dict)
    actions: list[str] = Field(default_factory=list)
    send_payload: bool = True
    send_for_all_actions: bool = True
    is_active: bool = False


class Storage(_Answer):
    """A storage connection, ours or another."""

    id: Id
    bucket: str
    title: str
    s3_endpoint: str | None = None
    region_name: str | None = None


ModelT = TypeVar("ModelT", bound=_Answer)


def those_of(kind: type[ModelT], items: list[Any]) -> list[ModelT]:
    """Return the items of this kind from a list that people can add to."""
    return [parsed for item in items if (parsed := _parsed(kind, item))]


def _parsed(kind: type[ModelT], item: object) -> ModelT | None:
    try:
        return kind.model_validate(item)
    except ValidationError:
        return None

"""Which of a task's predictions its object brought, and what a new version changes about them.

Label Studio keeps no `meta` for a prediction. Those that an import makes are known by digests in
the task's ``meta``. Those that are added later carry a tag in ``neighbors``, a field that Label
Studio stores and never uses. All others were made by somebody else, and stay.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeGuard

TAG = "ls_pipeline"
TAG_FIELD = "neighbors"

MOST = 250_000
"""More predictions than a row can have."""

_SIZE = 8
_DIGEST = re.compile("[0-9a-f]{16}")


class Tag(NamedTuple):
    """What says that a prediction is ours: the set that it belongs to, and its place there."""

    set: str
    place: int

    def as_field(self) -> list[Any]:
        return [TAG, self.set, self.place]


def parse_tag(value: object) -> Tag | None:
    """Return the tag that `Tag.as_field` wrote; None if it is anything else."""
    if not isinstance(value, list) or len(value) != 3 or value[0] != TAG:  # noqa: PLR2004
        return None
    _, digest, place = value
    return Tag(digest, place) if _is_digest(digest) and _is_count(place) else None


class StoredPrediction(NamedTuple):
    """A prediction of a task, as Label Studio lists it."""

    id: int
    tag: Tag | None
    document: Mapping[str, Any]


def parse_predictions(items: Sequence[Mapping[str, Any]]) -> list[StoredPrediction]:
    """Return those of these predictions that have an id, in the order of their ids."""
    return sorted(
        (
            StoredPrediction(item["id"], parse_tag(item.get(TAG_FIELD)), item)
            for item in items
            if _is_count(item.get("id"))
        ),
        key=lambda prediction: prediction.id,
    )


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """What a task's ``meta`` records of the predictions that its object brought."""

    imported: tuple[str, ...] = ()
    """Digests of those that were imported with the task."""
    posted: str = ""
    """The set that has replaced them since."""
    count: int = 0
    """How many the set has."""
    replaced: tuple[int, ...] = ()
    """Ids of untagged ones that the set is about to replace."""

    @property
    def set(self) -> str:
        return self.posted or _set_of(self.imported)

    @property
    def size(self) -> int:
        return self.count if self.posted else len(self.imported)

    def as_meta(self) -> dict[str, Any]:
        """Return the record as ``meta`` stores it; empty if there is nothing to record."""
        if self.posted:
            more = {"replaced": list(self.replaced)} if self.replaced else {}
            return {"posted": self.posted, "count": self.count, **more}
        return {"imported": list(self.imported)} if self.imported else {}


def parse_record(value: object) -> PredictionRecord | None:
    """Return the record that `PredictionRecord.as_meta` wrote; None if it is anything else."""
    if value is None:
        return PredictionRecord()
    if not isinstance(value, dict):
        return None
    imported, replaced = value.get("imported", []), value.get("replaced", [])
    posted, count = value.get("posted", ""), value.get("count", 0)
    if not (isinstance(imported, list) and all(map(_is_digest, imported))):
        return None
    if not (isinstance(replaced, list) and all(map(_is_count, replaced))):
        return None
    if not (posted == "" or _is_digest(posted)) or not (_is_count(count) and count <= MOST):
        return None
    return PredictionRecord(tuple(imported), posted, count, tuple(replaced))


def record_of(predictions: Sequence[Mapping[str, Any]]) -> PredictionRecord:
    """Return the record of predictions that are imported with their task."""
    return PredictionRecord(tuple(map(_digest, predictions)))


@dataclass
class OwnPredictions:
    """Those of a task's predictions that its object brought."""

    current: dict[int, int] = field(default_factory=dict)
    """The ids of those of the recorded set, by their places in it."""
    missing: list[int] = field(default_factory=list)
    """Places of the recorded set without a prediction."""
    repeated: list[int] = field(default_factory=list)
    """Ids of those that are there twice: one of the requests landed late."""
    earlier: list[int] = field(default_factory=list)
    """Ids of those of other sets."""
    may_change: bool = False
    """Whether any was ever posted: a request that does so, or deletes one, may land late."""

    @property
    def superfluous(self) -> list[int]:
        return [*self.repeated, *self.earlier]


def own_predictions(stored: Sequence[StoredPrediction], record: PredictionRecord) -> OwnPredictions:
    """Find the predictions of a task that its object brought."""
    own, seen = OwnPredictions(may_change=bool(record.posted)), set[Tag]()
    tags = {prediction.tag for prediction in stored}
    imported = () if record.posted else record.imported
    places: dict[str, list[int]] = {}
    for place, digest in enumerate(imported):
        if Tag(record.set, place) not in tags:
            places.setdefault(digest, []).append(place)
    for prediction in stored:
        tag = prediction.tag
        own.may_change |= tag is not None
        if tag is None and places and (open_ := places.get(_digest(prediction.document))):
            tag = Tag(record.set, open_.pop(0))
        if tag is None:
            if prediction.id in record.replaced:
                own.earlier.append(prediction.id)
        elif tag in seen:
            own.repeated.append(prediction.id)
        else:
            seen.add(tag)
            if tag.set == record.set and tag.place < record.size:
                own.current[tag.place] = prediction.id
            else:
                own.earlier.append(prediction.id)
    own.missing = [place for place in range(record.size) if place not in own.current]
    return own


@dataclass(frozen=True)
class PredictionChange:
    """What a task lacks of the predictions of its object's new version, and has of earlier ones."""

    record: PredictionRecord
    """For the task's ``meta`` afterwards."""
    missing: Mapping[int, Mapping[str, Any]]
    """Bodies to post, by their places."""
    superfluous: Sequence[int]
    """Ids to delete afterwards."""
    untagged: tuple[int, ...] = ()
    """Those of them that are not tagged."""

    @property
    def is_nothing(self) -> bool:
        return not self.missing and not self.superfluous

    @property
    def begun(self) -> PredictionRecord:
        """The record for the time in which it happens."""
        record = self.record
        if not record.posted:
            return record
        return PredictionRecord(posted=record.posted, count=record.count, replaced=self.untagged)


def change_predictions(
    stored: Sequence[StoredPrediction],
    record: PredictionRecord,
    wanted: Sequence[Mapping[str, Any]],
) -> PredictionChange:
    """Return how a task gets the predictions of its object's new version, and no other set's."""
    new = record_of(wanted)
    after = record
    if new.set != record.set:
        after = PredictionRecord(posted=new.set, count=len(wanted))
    before = own_predictions(stored, record)
    untagged = {each.id for each in stored if each.tag is None}
    own = own_predictions(stored, after)
    superfluous = sorted({*before.current.values(), *before.superfluous} - {*own.current.values()})
    missing = {place: _posted(wanted[place], Tag(after.set, place)) for place in own.missing}
    return PredictionChange(
        PredictionRecord(after.imported, after.posted, after.count),
        missing,
        superfluous,
        tuple(id_ for id_ in superfluous if id_ in untagged),
    )


def _posted(prediction: Mapping[str, Any], tag: Tag) -> dict[str, Any]:
    """Return the body that adds a prediction as the import would have stored it."""
    _, score, version = _stored_as(prediction)
    body = {"result": prediction["result"], "score": score, TAG_FIELD: tag.as_field()}
    return body if version is None else {**body, "model_version": version}


def _stored_as(prediction: Mapping[str, Any]) -> tuple[Any, float | None, str | None]:
    """Return result, score and model version as Label Studio's import stores them."""
    score = prediction.get("score")
    try:
        number = None if score is None else float(score)
    except (TypeError, ValueError, OverflowError):
        number = None
    version = prediction.get("model_version", "undefined")
    return prediction.get("result"), number, None if version is None else str(version)


def _digest(prediction: Mapping[str, Any]) -> str:
    return _hash(_stored_as(prediction))


def _set_of(digests: Sequence[str]) -> str:
    return _hash(list(digests))


def _hash(value: object) -> str:
    """Hash JSON whose numbers a database may return in another form: 1, 1.0 and 1e0 are one."""
    plain = json.loads(json.dumps(value), parse_int=_number, parse_float=_number)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=_SIZE).hexdigest()


def _number(text: str) -> float:
    return float(text) + 0.0  # so that -0.0 is 0.0


def _is_digest(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**63

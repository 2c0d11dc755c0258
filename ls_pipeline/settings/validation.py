"""Check a connection as a person wrote it, and report every error at once."""

from __future__ import annotations

import difflib
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from ls_pipeline.domain.errors import InvalidConnectionError, NotATaskError
from ls_pipeline.domain.label_config import LabelConfig
from ls_pipeline.domain.notes import shorten
from ls_pipeline.domain.objects import overlap
from ls_pipeline.domain.text import is_text
from ls_pipeline.settings.addresses import access_point_region
from ls_pipeline.settings.model import TITLE_LENGTHS, Connection, Source, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ls_pipeline.settings.params import SourceParams

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

SECRET_PARAM = re.compile(r"secret|password|token|credential|access_key|api_key", re.IGNORECASE)
"""Matches names of params that ask for a secret."""


def build_connection(
    name: str,
    *,
    source: Mapping[str, Any] | None,
    target: Mapping[str, Any] | None,
    project: str,
    label_config: str = "",
    enabled: bool = True,
) -> Connection:
    """Check a connection and return it.

    ``source`` and ``target`` are ``{"type": …, "path": …, "params": {…}}``.

    Raises ``InvalidConnectionError`` with every error.
    """
    errors: list[str] = []
    checked_source = check_side(Source, source, errors)
    checked_target = check_side(Target, target, errors)
    errors += _own_errors(name, project, label_config)
    if source is None and target is None:
        errors.append("It has neither a source nor a target; set at least one.")
    if checked_source and checked_target:
        errors += _overlap_errors(checked_source, checked_target)
    errors += _useless_settings(checked_source, checked_target)
    if checked_source and label_config:
        errors += data_key_errors(checked_source.params, label_config)
    if errors:
        raise InvalidConnectionError(name, errors)
    return Connection(
        name=name,
        source=checked_source,
        target=checked_target,
        project=project,
        label_config=label_config,
        enabled=enabled,
    )


@contextmanager
def adding_errors(name: str, errors: Sequence[str]) -> Iterator[None]:
    """Raise one ``InvalidConnectionError`` with ``errors`` and those that the block raises."""
    try:
        yield
    except InvalidConnectionError as error:
        raise InvalidConnectionError(name, [*errors, *error.errors]) from None
    if errors:
        raise InvalidConnectionError(name, errors)


def parse_params(option: str, text: str, errors: list[str]) -> dict[str, Any]:
    """Parse the JSON object of a command line's option; append what is wrong to ``errors``."""
    try:
        params = json.loads(text)
    except (ValueError, RecursionError) as error:
        errors.append(f"{option} is not JSON: {error}.")
        return {}
    if not isinstance(params, dict):
        errors.append(f'{option} is not a JSON object, as in {{"prefix": "images"}}.')
        return {}
    return params


SideT = TypeVar("SideT", Source, Target)


def check_side(
    model: type[SideT], given: Mapping[str, Any] | None, errors: list[str]
) -> SideT | None:
    """Check a side as a person wrote it; append what is wrong with it to ``errors``."""
    if given is None:
        return None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors += [_sentence(model, detail) for detail in error.errors()]
        return None


def _sentence(model: type[Source | Target], detail: Any) -> str:
    """Return an error of pydantic in the words of the command line."""
    side, kind, location = model.side, detail["type"], detail["loc"]
    field = str(location[-1]) if location else ""
    if kind == "value_error":
        return f"The {side} {detail['ctx']['error']}."
    if kind == "extra_forbidden":
        return _unknown_param(model, field)
    given = _shortened(detail["input"])
    expected = {
        "bool_type": "true or false",
        "string_type": "a string",
        "literal_error": detail.get("ctx", {}).get("expected"),
    }.get(kind) or detail["msg"].partition("Input should be ")[2]
    if expected:
        param = " param" if "params" in location else ""
        return f"The {side}{param} {field!r} must be {expected}, not {given}."
    return f"The {side} {field} {given}: {detail['msg']}."


def _shortened(value: object) -> str:
    """Return a value for people, whatever it is: an alias in YAML may contain itself."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return shorten(json.dumps(value))
    return "a list" if isinstance(value, (list, tuple)) else "a mapping"


def _unknown_param(model: type[Source | Target], field: str) -> str:
    if SECRET_PARAM.search(field):
        return (
            f"There is no {model.side} param {field!r}: credentials are not settings; set them in "
            "the environment, such as AWS_ACCESS_KEY_ID, or use role_arn."
        )
    known = list(model.model_fields["params"].annotation.model_fields)  # type: ignore[union-attr]
    close = difflib.get_close_matches(field, known, 1)
    suggestion = f" (did you mean {close[0]!r}?)" if close else ""
    return f"There is no {model.side} param {field!r}{suggestion}. Params: {', '.join(known)}."


def _own_errors(name: str, project: str, label_config: str) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield (
            "A connection's name must have 1 to 63 letters, digits, - and _, and begin with a "
            "letter or digit."
        )
    if len(project) not in TITLE_LENGTHS:
        yield (
            f"The project's title {project!r} must have {TITLE_LENGTHS[0]} to "
            f"{TITLE_LENGTHS[-1]} characters."
        )
    if not (is_text(project) and is_text(label_config)):
        yield "Its project and label config must have no NUL, and no half of a surrogate pair."
    else:
        try:
            LabelConfig(label_config)
        except NotATaskError as error:
            yield str(error)


def _useless_settings(source: Source | None, target: Target | None) -> Iterator[str]:
    """Reject settings without effect, which stored revisions may have and which stay readable."""
    from croniter import CroniterBadDateError, croniter

    if source and source.params.use_blob_urls and source.params.format != "auto":
        yield "The source's format has no effect with use_blob_urls; leave one of them out."
    if source and source.params.column_map and not source.params.has_columns:
        yield "The source's column_map is for CSV, TSV and Parquet; leave it out."
    if source and (queue := source.params.notifications).endswith(".fifo"):
        yield f"S3 sends no notifications to FIFO queues such as {queue}; use a standard queue."
    if source and source.params.notifications and access_point_region(source.path):
        yield "S3's notifications name a bucket, not its access point; leave notifications out."
    if target and (cron := target.params.snapshot_cron):
        try:
            croniter(cron).get_next()
        except CroniterBadDateError:
            yield f"The target's snapshot_cron {cron!r} matches no date."


def _overlap_errors(source: Source, target: Target) -> Iterator[str]:
    endpoints = {part.params.endpoint_url.rstrip("/") for part in (source, target)} - {""}
    same_bucket = source.root == target.root and len(endpoints) <= 1
    if same_bucket and overlap(source.params.prefix, target.params.prefix):
        yield (
            f"Source and target overlap in bucket {source.path!r}: exported files would become "
            "tasks. Set two prefixes, neither inside the other."
        )


def data_key_errors(params: SourceParams, label_config: str) -> Iterator[str]:
    """Yield what a label config shows and these params don't fill."""
    try:
        keys = LabelConfig(label_config).keys
    except NotATaskError:
        return  # `_own_errors` reports it
    shown = ", ".join(map(repr, keys))
    if params.data_key and keys and params.data_key not in keys:
        yield f"The label config does not show data_key {params.data_key!r}; it shows {shown}."
    fills_one, noun = params.fills_one_key, "blob" if params.use_blob_urls else "text"
    if fills_one and not (keys or params.data_key):
        yield (
            f"A {noun} fills a data key, and the label config shows none. Add a tag like "
            '<Image name="image" value="$image"/>, or set data_key.'
        )
    if fills_one and len(keys) > 1 and not params.adds_data:
        yield (
            f"A {noun} fills one data key, and the label config shows {shown}. Set sidecar_suffix "
            "or manifest if the rest is there, use JSON tasks, or use another label config."
        )

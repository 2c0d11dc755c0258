"""One request's worth of a listing, as both clouds give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ls_pipeline.domain.objects import StoredObject

PAGE = 1000
"""Objects that one request lists."""


class Page(NamedTuple):
    """Some objects in the order of their keys; ``token`` asks for what follows, if anything does.

    A page may hold no object and yet be followed by others.
    """

    objects: list[StoredObject]
    token: str

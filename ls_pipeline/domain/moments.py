"""Label Studio's times, as it writes them: in UTC, with microseconds. They compare as texts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

FORM = "%Y-%m-%dT%H:%M:%S.%fZ"

FIRST = "1970-01-01T00:00:00.000000Z"


def check_moment(text: str) -> str:
    """Return a time of Label Studio, or an empty text. Raises ``ValueError`` for any other."""
    if text:
        earlier(text, timedelta())
        if text < FIRST:
            raise ValueError("it is before 1970")
    return text


Moment = Annotated[str, AfterValidator(check_moment)]
"""A time of Label Studio; empty: none."""


def earlier(moment: str, by: timedelta) -> str:
    """Return the Label Studio time that is ``by`` before another."""
    return (datetime.strptime(moment, FORM) - by).strftime(FORM)  # noqa: DTZ007 - the Z is UTC

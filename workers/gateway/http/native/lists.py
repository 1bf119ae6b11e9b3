"""Lists: one page, and the cursor of the next.

Used by every listing route of the native face.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from workers.domain.history.queries import Page
from workers.gateway.refusals import Invalid

T = TypeVar("T")

Filter = Annotated[str, Query(max_length=256)]
Cursor = Annotated[str, Query(max_length=512, description="The cursor that the page before gave as next.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of one page.")]
Moment = Annotated[str, Query(max_length=64, description="RFC 3339 with a zone, or nanoseconds since the epoch.")]
Since = Annotated[
    str, Query(max_length=64, description="An age such as 30m, 24h or 7d, or a moment; the same as from otherwise.")
]


class Listed(BaseModel, Generic[T]):
    """One page."""

    model_config = ConfigDict(frozen=True)

    data: list[T]
    """Newest first."""
    next: str | None = None
    """The cursor of the next page; null at the end."""


def one_of(words: type[StrEnum], text: str, *, field: str) -> str:
    """A word of a closed list, in any case; empty stays empty.

    Raises:
        Invalid: another word, with the list.
    """
    if text and text.upper() not in words.__members__:
        raise Invalid(f"{field} is one of {', '.join(words.__members__)}", field=field)
    return text.upper()


def page(read: Callable[[], Page[T]]) -> Page[T]:
    """What was read.

    Raises:
        Invalid: the cursor is none of ours.
    """
    try:
        return read()
    except ValueError:
        raise Invalid("this cursor is none; take it from the page before", field="cursor") from None

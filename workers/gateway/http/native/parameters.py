"""Parameters that several routes take, and one page of a list.

Used by the routes of the native API.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Header, Path, Query

from workers.domain.history.queries import Page
from workers.gateway.http.native.target_view import View
from workers.gateway.http.native.times import moment, since_ns
from workers.gateway.http.services import Services
from workers.gateway.refusals import Invalid

T = TypeVar("T")

Id = Annotated[str, Path(max_length=128, description="An execution id.")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="For at least a day, a second request under the same key is the same execution.",
    ),
]
Filter = Annotated[str, Query(max_length=256)]
Cursor = Annotated[str, Query(max_length=512, description="The `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows of one page.")]
Moment = Annotated[str, Query(max_length=64, description="RFC 3339 with a zone, or nanoseconds since the epoch.")]
Since = Annotated[
    str,
    Query(
        alias="since",
        max_length=64,
        description="An age such as 30m, 24h or 7d, or a moment; replaces `from`.",
    ),
]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Nanoseconds since the epoch; 0 for no bound."""

    from_ns: int
    to_ns: int


async def time_range(
    services: Services, since: Since = "", from_: Annotated[Moment, Query(alias="from")] = "", to: Moment = ""
) -> TimeRange:
    """The range of a list.

    Raises:
        Invalid: a moment cannot be read.
    """
    start = since_ns(since, now_ns=services.clock.now_ns()) if since else moment(from_, field="from")
    return TimeRange(start, moment(to, field="to"))


Between = Annotated[TimeRange, Depends(time_range)]


class Listed(View, Generic[T]):
    """One page."""

    data: list[T]
    """Newest first."""
    next: str | None = None
    """The cursor of the next page; null at the end."""


def one_of(values: type[StrEnum], text: str, *, field: str) -> str:
    """A value of a closed list, in upper or lower case; empty text stays empty.

    Raises:
        Invalid: another value; the message has the list.
    """
    if text and text.upper() not in values.__members__:
        raise Invalid(f"{field} is one of {', '.join(values.__members__)}", field=field)
    return text.upper()


def page(read: Callable[[], Page[T]]) -> Page[T]:
    """What ``read`` returns.

    Raises:
        Invalid: the cursor is not valid.
    """
    try:
        return read()
    except ValueError:
        raise Invalid("cursor is not valid; take it from the page before", field="cursor") from None

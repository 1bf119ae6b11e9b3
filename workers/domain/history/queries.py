"""Queries of history, and the pages that answer them.

Made by the gateway out of HTTP parameters, answered by ``store.history``. Pure values.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from workers.domain.event import RuntimeEvent
from workers.domain.node_state import NodeState
from workers.domain.trust.audit import AuditRecord

T = TypeVar("T")

MAX_LIMIT: Final = 1000
"""Most rows of one page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, newest first, and the cursor of the next; empty at the end."""

    rows: tuple[T, ...]
    next_cursor: str = ""


SILENT_NS: Final = 600_000_000_000
"""Twice the longest interval between heartbeats: a node that was silent for longer is not available now."""


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Which executions; every field narrows, empty or 0 means any. Times are nanoseconds since the epoch.

    ``from_ns`` is the first moment that belongs, ``to_ns`` the first that does not; ``limit`` is 1 to ``MAX_LIMIT``.
    """

    host: str = ""
    """Node id or host name."""
    container: str = ""
    """An id of 12 digits or more, of the target or of the event that led here."""
    workload: str = ""
    """Of the event that led here."""
    cluster: str = ""
    """Of the node, or of the event that led here."""
    rule: str = ""
    actor: str = ""
    action: str = ""
    outcome: str = ""
    stage: str = ""
    event_id: str = ""
    caller_id: str = ""
    undo_of: str = ""
    actions: tuple[str, ...] | None = None
    """One of these; None means any."""
    outcomes: tuple[str, ...] = ()
    """One of these; the empty text stands for none yet."""
    stages: tuple[str, ...] = ()
    """One of these."""
    from_ns: int = 0
    to_ns: int = 0
    limit: int = 25
    cursor: str = ""
    offset: int = 0
    """How many rows to skip: this costs as much as reading them, where a cursor costs nothing."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events; every field narrows, as in ``ExecutionQuery``."""

    host: str = ""
    rule: str = ""
    container: str = ""
    workload: str = ""
    cluster: str = ""
    from_ns: int = 0
    to_ns: int = 0
    limit: int = 25
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event, and the executions that it led to."""

    event: RuntimeEvent
    executions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A node's newest heartbeat and when the projector folded it."""

    state: NodeState
    verified: bool
    folded_at_ns: int

    def offers(self, action: str, *, now_ns: int) -> bool:
        """Whether it would run the action now: switched on, and the node is neither silent nor unverified."""
        return self.verified and now_ns - self.folded_at_ns < SILENT_NS and action in self.state.actions


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """An audit record, where it stands in its chain, and whether signature and link hold."""

    record: AuditRecord
    verified: bool


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How far the history is folded."""

    next_offsets: Mapping[str, int] = field(default_factory=dict)
    """``topic/partition`` to the next offset to fold."""
    executions: int = 0
    unverified: int = 0
    conflicts: int = 0
    gaps: int = 0
    last_heartbeat_ns: int = 0
    """The time of the newest heartbeat, by the clock of its node; 0 where there is none."""


def cursor_after(at_ns: int, row_id: str) -> str:
    """The opaque cursor of the page behind the row of that time and id."""
    return base64.urlsafe_b64encode(f"{at_ns} {row_id}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> tuple[int, str]:
    """The time and id that a cursor was made of.

    Raises:
        ValueError: ``cursor`` did not come from ``cursor_after``.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at_ns, separator, row_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(" ")
        found = int(at_ns), row_id
    except (binascii.Error, ValueError):
        found, separator = (0, ""), ""
    if not separator or cursor_after(*found) != cursor:
        raise ValueError("the cursor does not come from a page of this history; start from the first page")
    return found


def checked_limit(limit: int) -> int:
    """``limit`` itself.

    Raises:
        ValueError: not between 1 and ``MAX_LIMIT``.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"a page has 1 to {MAX_LIMIT} rows, not {limit}")
    return limit

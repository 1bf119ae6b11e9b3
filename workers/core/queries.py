"""What is asked of history, and the pages it answers with.

Made by the gateway out of HTTP parameters, answered by ``adapters.history_store``. Pure values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from workers.core.audit import AuditRecord
from workers.core.event import RuntimeEvent
from workers.core.node_state import NodeState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, newest first, and the cursor of the next; empty at the end."""

    rows: tuple[T, ...]
    next_cursor: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """Which executions; every field narrows, empty or 0 means any. Times are nanoseconds since the epoch."""

    host: str = ""
    """Node id or host name."""
    container: str = ""
    workload: str = ""
    cluster: str = ""
    rule: str = ""
    actor: str = ""
    action: str = ""
    outcome: str = ""
    stage: str = ""
    event_id: str = ""
    caller_id: str = ""
    undo_of: str = ""
    from_ns: int = 0
    to_ns: int = 0
    limit: int = 25
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events."""

    host: str = ""
    rule: str = ""
    container: str = ""
    from_ns: int = 0
    to_ns: int = 0
    limit: int = 25
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event, and the executions it led to."""

    event: RuntimeEvent
    executions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A node's newest heartbeat and when the projector folded it."""

    state: NodeState
    verified: bool
    folded_at_ns: int


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """An audit record, where it stands in its chain, and whether signature and link hold."""

    record: AuditRecord
    verified: bool


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How far history has come."""

    next_offsets: Mapping[str, int] = field(default_factory=dict)
    """``topic/partition`` to the next offset to fold."""
    executions: int = 0
    unverified: int = 0
    conflicts: int = 0
    gaps: int = 0

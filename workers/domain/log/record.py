"""Kafka's terms as plain values: positions, records in, records out, and the gap.

Used by every port that touches a log. Pure values; the broker client lives in ``log``.
"""

from dataclasses import dataclass
from typing import TypeAlias

from workers.domain.ids import LogId
from workers.domain.outcome import Values

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

TopicPartition: TypeAlias = tuple[str, int]
"""A partition by its topic's name, whichever log that is now."""


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """One partition of one log. A topic deleted and made again, or another cluster, has another ``log_id``."""

    log_id: LogId
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read. ``value`` may be None (a tombstone) and may be empty; test for None, never for truth."""

    position: LogPosition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ns: int = 0
    """The broker's or producer's time: unsigned, so it raises alarms and decides nothing."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that can no longer be read: ``expected`` up to ``resumed_at``. Always audited, never skipped silently."""

    position: LogPosition
    expected: int
    resumed_at: int
    reason: str

    @property
    def detail(self) -> Values:
        """The detail of every worker's audit record about it."""
        return {
            "topic": self.position.topic,
            "partition": self.position.partition,
            "log_id": self.position.log_id,
            "expected": self.expected,
            "resumed_at": self.resumed_at,
            "reason": self.reason,
        }


Delivery: TypeAlias = Record | Gap


@dataclass(frozen=True, slots=True)
class OutRecord:
    """One record to write. ``partition`` None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Earliest:
    """Start at the oldest record that is still there."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Start behind the newest record."""


@dataclass(frozen=True, slots=True)
class Since:
    """Start at the first record not older than ``at_ns``; at the earliest where the broker does not know."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Start exactly here; if that is gone, a ``Gap`` is delivered and reading goes on from what is left."""

    next_offset: int


Start: TypeAlias = Earliest | Latest | Since | Offset

"""The log up to where a history store stands, and no further; and what is seen on the way of how far back it reaches.

Made by wiring for a rebuild; read by the projector of the new store as its log.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from workers.domain.history.rebuild import FOREVER_NS, Reach
from workers.domain.log import topics
from workers.domain.log.record import Delivery, Gap, LogPosition, Offset, Record, Start
from workers.log.ports import LogReader

SLACK_NS: Final = 86_400_000_000_000
"""A day: how far the clocks of those who sign and of the brokers may be apart, and how late a record may come."""


class BoundedLog:
    """Implements ``LogReader`` by passing on what another reads."""

    def __init__(self, reader: LogReader) -> None:
        """``go_on`` before the first ``assign``."""
        self._reader = reader
        self._ends: Mapping[LogPosition, int] = {}
        self._next: dict[LogPosition, int] = {}
        """Everything below was passed on, or is known not to be there."""
        self._starts: dict[LogPosition, tuple[int, int]] = {}
        """Offset and time of the first record of each partition."""
        self._given_up: dict[LogPosition, int] = {}
        self._assigned: frozenset[LogPosition] = frozenset()
        self.moved = False
        """Whether the last ``poll`` brought anything at all."""

    @property
    def pending(self) -> frozenset[LogPosition]:
        """Partitions that are there and were not read to their end."""
        return frozenset(
            position
            for position in self._assigned
            if max(self._next.get(position, 0), self._given_up.get(position, 0)) < self._ends.get(position, 0)
        )

    def go_on(self, ends: Mapping[LogPosition, int]) -> None:
        """Read up to these offsets from the next ``assign`` on."""
        self._ends = ends

    def give_up(self) -> Mapping[str, int]:
        """Take what is pending for gone; how many records of each ``topic/partition``."""
        behind = {position: self._ends[position] - self._next.get(position, 0) for position in sorted(self.pending)}
        for position in behind:
            self._given_up[position] = self._ends[position]
        return {f"{position.topic}/{position.partition}": count for position, count in behind.items()}

    def reach(self) -> Reach:
        """How far back the log reaches."""
        return Reach(
            self._reach_of(topics.RESULTS),
            self._reach_of(topics.AUDIT),
            self._reach_of(topics.RUNTIME_EVENTS, topics.FALCO_EVENTS),
            {position: self._starts[position][0] for position in self._starts},
        )

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        return self._reader.partitions(topic)

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        self._assigned = frozenset(starts)
        for position, start in starts.items():
            if isinstance(start, Offset):
                self._next[position] = max(self._next.get(position, 0), start.next_offset)
        self._reader.assign(starts)

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """Gaps pass."""
        found = self._reader.poll(timeout_s, limit=limit)
        self.moved = bool(found)
        return [each for each in found if self._passes(each)]

    def close(self) -> None:
        self._reader.close()

    def _passes(self, delivery: Delivery) -> bool:
        position = delivery.position
        if isinstance(delivery, Gap):
            self._starts[position] = (delivery.resumed_at, 0)
            self._next[position] = max(self._next.get(position, 0), delivery.resumed_at)
            return delivery.resumed_at <= self._ends.get(position, 0)
        self._note_start(delivery)
        end = self._ends.get(position, 0)
        # A record behind the end proves that all before it came, though the last of them may have been compacted away.
        self._next[position] = max(self._next.get(position, 0), min(delivery.offset + 1, end))
        return delivery.offset < end

    def _note_start(self, record: Record) -> None:
        start, at_ns = self._starts.get(record.position, (record.offset, 0))
        self._starts[record.position] = (start, at_ns or record.timestamp_ns)

    def _reach_of(self, *names: str) -> int:
        """The latest moment before which a record of these topics may be gone; 0 when none is."""
        return max((self._lost_before(position) for position in self._ends if position.topic in names), default=0)

    def _lost_before(self, position: LogPosition) -> int:
        if position not in self._starts:
            return FOREVER_NS if self._ends[position] else 0
        offset, at_ns = self._starts[position]
        if offset == 0:
            return 0
        return at_ns + SLACK_NS if at_ns else FOREVER_NS

"""A broker in memory: topics, partitions, retention, groups, and the faults a test may ask for.

Tests make one and hand its readers and writers (`bus.py`) to the room under test. It must never know a room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.fakes.clock import FakeClock
from workers.domain.errors import TransientFailure
from workers.domain.ids import LogId
from workers.domain.log.record import Earliest, Gap, Latest, LogPosition, Offset, OutRecord, Record, Since, Start
from workers.domain.log.routing import murmur2

TopicPartition = tuple[str, int]
"""Topic and partition."""


class Now(Protocol):
    """As much of a clock as a broker needs."""

    def now_ns(self) -> int: ...


@dataclass(slots=True)
class Partition:
    """What is left of one partition, from offset `low` on."""

    low: int = 0
    records: list[Record] = field(default_factory=list)

    @property
    def high(self) -> int:
        return self.low + len(self.records)


class FakeLog:
    """The broker. Every method may be called from any thread."""

    def __init__(
        self, topics: Mapping[str, int] | None = None, *, clock: Now | None = None, log_id: str = "fake-log"
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.committed: dict[tuple[str, str, int], int] = {}
        self.members: dict[str, list[tuple[object, tuple[str, ...]]]] = {}
        self.generations: dict[str, int] = {}
        self.max_bytes = 1_000_000
        self.fail_next: list[tuple[str, bool]] = []
        """What becomes of the next sends: the error, and whether the record is in the log all the same."""
        self.is_down = False
        self._clock = clock if clock is not None else FakeClock()
        self._log_id = log_id
        self._log_ids: dict[str, LogId] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._unkeyed = 0
        for topic, partitions in (topics or {}).items():
            self.create_topic(topic, partitions)

    # --- what an operator does ---

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Create it, or replace it by an empty one that is another log."""
        with self.changed:
            again = topic in self._log_ids
            self._log_ids[topic] = LogId(f"{self._log_ids[topic]}+" if again else self._log_id)
            for key in [key for key in self._partitions if key[0] == topic]:
                del self._partitions[key]
            self._partitions |= {(topic, number): Partition() for number in range(partitions)}
            self.changed.notify_all()

    def remove_topic(self, topic: str) -> None:
        """Delete it, and whatever it holds."""
        with self.changed:
            for key in [key for key in self._partitions if key[0] == topic]:
                del self._partitions[key]

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Let the topic have so many partitions from now on."""
        with self.changed:
            for number in range(partitions):
                self._partitions.setdefault((topic, number), Partition())
            self.changed.notify_all()

    def append(self, record: OutRecord) -> Record:
        """Write one record, as any producer could. Raises `KeyError` for an unknown topic or partition."""
        with self.changed:
            key = (record.topic, self._partition_of(record))
            partition = self._partitions[key]
            stored = Record(
                self.position(*key), partition.high, record.key, record.value, record.headers, self._clock.now_ns()
            )
            partition.records.append(stored)
            self.changed.notify_all()
            return stored

    def duplicate(self, record: Record) -> Record:
        """Write a record's bytes once more, as a producer does whose acknowledgement was lost."""
        key = record.position
        return self.append(OutRecord(key.topic, record.key, record.value, record.headers, key.partition))

    def replay(self, topic: str) -> None:
        """Write everything that a topic holds once more, in order."""
        for record in self.records(topic):
            self.duplicate(record)

    def truncate(self, topic: str, *, partition: int = 0, below: int) -> None:
        """Forget what lies below an offset, as retention does."""
        with self.changed:
            found = self._partitions[topic, partition]
            gone = max(0, min(below, found.high) - found.low)
            del found.records[:gone]
            found.low += gone

    def cut(self, topic: str, *, partition: int = 0, at: int) -> None:
        """Forget everything from an offset on, as an unclean leader election does."""
        with self.changed:
            found = self._partitions[topic, partition]
            del found.records[max(0, at - found.low) :]

    def down(self) -> None:
        """No call is answered until `up`."""
        self.is_down = True

    def up(self) -> None:
        """Answer again."""
        with self.changed:
            self.is_down = False
            self.changed.notify_all()

    def records(self, topic: str) -> list[Record]:
        """Everything a topic holds, by partition, then offset."""
        with self.changed:
            return [
                record
                for key in sorted(self._partitions)
                if key[0] == topic
                for record in self._partitions[key].records
            ]

    def values(self, topic: str) -> list[bytes | None]:
        """Only the values of `records`."""
        return [record.value for record in self.records(topic)]

    # --- what the clients in bus.py ask ---

    def positions(self, topic: str) -> tuple[LogPosition, ...]:
        """Raises `TransientFailure` when the broker is down or the topic is not there (yet)."""
        self.answer()
        found = tuple(self.position(*key) for key in sorted(self._partitions) if key[0] == topic)
        if not found:
            raise TransientFailure(f"the log has no topic {topic}", code="unknown_topic")
        return found

    def position(self, topic: str, partition: int) -> LogPosition:
        """A partition under its log's id."""
        return LogPosition(self._log_ids[topic], topic, partition)

    def answer(self) -> None:
        """Raises `TransientFailure` when the broker is down."""
        if self.is_down:
            raise TransientFailure("the log does not answer", code="log_away")

    def offset_of(self, key: TopicPartition, start: Start) -> int:
        """Where reading begins."""
        partition = self._partitions[key]
        match start:
            case Earliest():
                return partition.low
            case Latest():
                return partition.high
            case Since(at_ns):
                later = (record.offset for record in partition.records if record.timestamp_ns >= at_ns)
                return next(later, partition.high)
            case Offset(next_offset):
                return next_offset

    def read(self, position: LogPosition, offset: int, limit: int) -> tuple[list[Record | Gap], int, LogPosition]:
        """Deliveries from `offset` on, the next offset, and the position they are under."""
        key = (position.topic, position.partition)
        partition = self._partitions.get(key)
        if partition is None:
            raise TransientFailure(f"the log has no {position.topic}[{position.partition}]", code="unknown_topic")
        now = self.position(*key)
        found: list[Record | Gap] = []
        if now.log_id != position.log_id or not partition.low <= offset <= partition.high:
            found.append(Gap(position, offset, partition.low, self._reason(now, position, offset, partition)))
            offset = partition.low
        records = partition.records[offset - partition.low :][: limit - len(found)]
        found += [replace(record, position=now) for record in records]
        return found, offset + len(records), now

    @staticmethod
    def _reason(now: LogPosition, position: LogPosition, offset: int, partition: Partition) -> str:
        if now.log_id != position.log_id:
            return "log_replaced"
        return "log_expired" if offset < partition.low else "log_shorter"

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait for real until something is there."""
        with self.changed:
            self.changed.wait_for(ready, timeout_s)

    def _partition_of(self, record: OutRecord) -> int:
        if record.partition is not None:
            return record.partition
        count = sum(1 for topic, _ in self._partitions if topic == record.topic)
        if record.key:
            return (murmur2(record.key) & 0x7FFFFFFF) % max(count, 1)
        self._unkeyed += 1
        return self._unkeyed % max(count, 1)

"""The three ports of the log on a broker in memory: `FakeLog().reader()`, `.group_reader(group)`, `.writer()`.

    log = FakeBus({"response.results": 3})
    worker = Worker(reader=log.reader(), writer=log.writer())

They return at once whatever time they are given, unless made with `waits=True` (for a test of a loop with threads).
Must keep the behaviour suite in tests/contract/test_log_ports.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.fakes.log import FakeLog, TopicPartition
from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.log.record import Delivery, LogPosition, Offset, OutRecord, Start
from workers.log.ports import Ack


class FakeBus(FakeLog):
    """A broker in memory that also makes its clients."""

    def reader(self, *, waits: bool = False) -> FakeLogReader:
        """A reader of its own."""
        return FakeLogReader(self, waits=waits)

    def group_reader(self, group: str, *, waits: bool = False) -> FakeGroupReader:
        """A member of a consumer group."""
        return FakeGroupReader(self, group, waits=waits)

    def writer(self, *, queue: int = 100_000, waits: bool = False) -> FakeLogWriter:
        """A producer; `queue` is how many records it holds without an acknowledgement."""
        return FakeLogWriter(self, queue=queue, waits=waits)


class FakeLogReader:
    """`LogReader`."""

    def __init__(self, log: FakeLog, *, waits: bool) -> None:
        self._log = log
        self._waits = waits
        self._next_offsets: dict[TopicPartition, tuple[LogPosition, int]] = {}
        self.closed = False

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        return self._log.positions(topic)

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        self._log.answer()
        with self._log.changed:
            self._next_offsets = {
                (position.topic, position.partition): (
                    position,
                    self._log.offset_of((position.topic, position.partition), start),
                )
                for position, start in starts.items()
            }

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        found = self._read(limit)
        if found or not self._waits:
            return found
        self._log.wait(self._is_behind, timeout_s)
        return self._read(limit)

    def _is_behind(self) -> bool:
        return self._log.is_down or any(self._log.read(*offset, 1)[0] for offset in self._next_offsets.values())

    def _read(self, limit: int) -> list[Delivery]:
        self._log.answer()
        found: list[Delivery] = []
        with self._log.changed:
            for key, (position, offset) in self._next_offsets.items():
                if len(found) >= limit:
                    break
                some, next_offset, now = self._log.read(position, offset, limit - len(found))
                self._next_offsets[key] = (now, next_offset)
                found += some
        return found

    def close(self) -> None:
        self.closed = True
        self._next_offsets = {}


class FakeGroupReader:
    """`GroupReader`: a group's members share the partitions; a member that joins or leaves makes all start anew from
    what was committed."""

    def __init__(self, log: FakeLog, group: str, *, waits: bool) -> None:
        self._log = log
        self._group = group
        self._inner = FakeLogReader(log, waits=waits)
        self._fresh: Start = Offset(0)
        self._generation = -1

    def subscribe(self, topics: Sequence[str], *, fresh: Start) -> None:
        self._fresh = fresh
        with self._log.changed:
            self._leave()
            self._log.members.setdefault(self._group, []).append((self, tuple(topics)))

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        self._log.answer()
        self._rebalance()
        return self._inner.poll(timeout_s, limit=limit)

    def commit(self) -> None:
        self._log.answer()
        with self._log.changed:
            if self._generation != self._log.generations.get(self._group):
                return
            for (topic, partition), (_, offset) in self._inner._next_offsets.items():
                self._log.committed[self._group, topic, partition] = offset

    def close(self) -> None:
        with self._log.changed:
            self._leave()
        self._inner.close()

    def _leave(self) -> None:
        members = self._log.members.get(self._group, [])
        self._log.members[self._group] = [member for member in members if member[0] is not self]
        self._log.generations[self._group] = self._log.generations.get(self._group, 0) + 1

    def _rebalance(self) -> None:
        with self._log.changed:
            generation = self._log.generations.get(self._group, 0)
            if generation == self._generation:
                return
            self._inner.assign({position: self._start_of(position) for position in self._mine()})
            self._generation = generation

    def _mine(self) -> list[LogPosition]:
        members = self._log.members.get(self._group, [])
        index = next((number for number, member in enumerate(members) if member[0] is self), None)
        if index is None:
            return []
        every = [position for topic in members[index][1] for position in self._log.positions(topic)]
        return every[index :: len(members)]

    def _start_of(self, position: LogPosition) -> Start:
        done = self._log.committed.get((self._group, position.topic, position.partition))
        return self._fresh if done is None else Offset(done)


class FakeLogWriter:
    """`LogWriter`: what is sent is in the log at the next `acks` or `flush`, unless the broker is down."""

    def __init__(self, log: FakeLog, *, queue: int, waits: bool) -> None:
        self._log = log
        self._queue = queue
        self._waits = waits
        self._waiting: list[tuple[OutRecord, int]] = []
        self._acks: list[Ack] = []
        self.sent: list[OutRecord] = []
        """Everything ever passed to `send`, in order."""

    def send(self, record: OutRecord, *, token: int) -> None:
        size = len(record.key or b"") + len(record.value or b"")
        if size > self._log.max_bytes:
            raise MalformedMessage(f"{size} bytes are too many for {record.topic}", code="oversize")
        if len(self._waiting) >= self._queue:
            raise TransientFailure("the queue to the log is full", code="queue_full")
        self.sent.append(record)
        self._waiting.append((record, token))

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        if self._waits and self._log.is_down and not self._acks:
            self._log.wait(lambda: not self._log.is_down, timeout_s)
        self._deliver()
        out, self._acks = self._acks, []
        return out

    def flush(self, timeout_s: float) -> int:
        self._deliver()
        return len(self._waiting)

    def close(self) -> None:
        self._waiting = []

    def _deliver(self) -> None:
        if self._log.is_down:
            return
        waiting, self._waiting = self._waiting, []
        self._acks += [self._fate(record, token) for record, token in waiting]

    def _fate(self, record: OutRecord, token: int) -> Ack:
        error, stored = self._log.fail_next.pop(0) if self._log.fail_next else ("", True)
        if not stored:
            return Ack(token, error)
        try:
            written = self._log.append(record)
        except KeyError:
            return Ack(token, "unknown_topic")
        return Ack(token, error, *(() if error else (written.position, written.offset)))

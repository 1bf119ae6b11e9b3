"""How far the command partitions are known to be written, and which results that come back were sent from here.

Stands between the relay and the ``LogWriter``, as a ``LogWriter``. A known tail is a lower bound: a command that is
signed now is appended later, so every copy of it has at least that offset. This is half of the proof that a node never
took a command in (``follow``); a bound that is too low only proves less.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workers.domain.log import topics
from workers.domain.log.record import LogPosition, OutRecord, TopicPartition
from workers.log.ports import Ack, LogWriter

_REMEMBERED: Final = 50_000
"""Own results that are recognised when they come back: some seconds of the fastest burst, 1.6 MB."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A partition, and the least offset that a record sent from now on can have."""

    position: LogPosition
    next_offset: int


class Tails:
    """A ``LogWriter`` that notes the offsets of what it sends."""

    def __init__(self, writer: LogWriter) -> None:
        """``writer`` does the work."""
        self._writer = writer
        self._next: dict[LogPosition, int] = {}
        self._current: dict[TopicPartition, LogPosition] = {}
        self._own: OrderedDict[bytes, None] = OrderedDict()

    def note(self, position: LogPosition, next_offset: int) -> None:
        """That partition holds everything below ``next_offset``, and its log is the one being written now."""
        self._next[position] = max(next_offset, self._next.get(position, 0))
        self._current[position.topic, position.partition] = position

    def of(self, topic: str, partition: int) -> Tail | None:
        """The tail of a partition; None while its log is not known."""
        position = self._current.get((topic, partition))
        return None if position is None else Tail(position, self._next[position])

    def is_own(self, value: bytes) -> bool:
        """Whether these bytes were sent from here, so that nothing in them is new."""
        return hashlib.sha256(value).digest() in self._own

    def send(self, record: OutRecord, *, token: int) -> None:
        self._writer.send(record, token=token)
        if record.topic == topics.RESULTS and record.value is not None:
            self._own[hashlib.sha256(record.value).digest()] = None
            if len(self._own) > _REMEMBERED:
                self._own.popitem(last=False)

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        acks = self._writer.acks(timeout_s)
        for ack in acks:
            if ack.ok and ack.position is not None and ack.offset >= 0:
                self._appended(ack.position, ack.offset)
        return acks

    def flush(self, timeout_s: float) -> int:
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        self._writer.close()

    def _appended(self, position: LogPosition, offset: int) -> None:
        """An acknowledgement may not name its log (a real cluster's does not). An offset below the known tail belongs
        to a log made anew: then nothing is known, and nothing is proven, until the next start."""
        partition = (position.topic, position.partition)
        current = self._current.get(partition)
        if current is None:
            return
        if position.log_id not in ("", current.log_id) or offset < self._next[current]:
            del self._current[partition]
        else:
            self._next[current] = offset + 1

"""How far the command partitions are known to be written, and which of the results that come back are our own.

Stands between relay and ``LogWriter`` as a ``LogWriter``. What it knows is a lower bound: a command that is stamped now
is appended later, so every copy of it has at least the offset known here. That bound is half of the proof that a node
never took a command in (``follow``); a bound that is too low only proves less.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from workers.domain.log import topics
from workers.domain.log.record import LogPosition, OutRecord
from workers.log.ports import Ack, LogWriter

_REMEMBERED: Final = 50_000
"""Own results recognised when they come back: some seconds of the fastest burst, 1.6 MB."""


class Tails:
    """A ``LogWriter`` that watches what goes through."""

    def __init__(self, writer: LogWriter) -> None:
        """``writer`` does the work."""
        self._writer = writer
        self._next: dict[LogPosition, int] = {}
        self._current: dict[tuple[str, int], LogPosition] = {}
        self._own: OrderedDict[bytes, None] = OrderedDict()

    def note(self, position: LogPosition, next_offset: int) -> None:
        """That partition holds everything below ``next_offset``, and is the one being written now."""
        self._next[position] = max(next_offset, self._next.get(position, 0))
        self._current[position.topic, position.partition] = position

    def bound(self, topic: str, partition: int) -> tuple[LogPosition, int] | None:
        """The least offset a record sent from now on can have; None while the log is not known."""
        position = self._current.get((topic, partition))
        return None if position is None else (position, self._next[position])

    def is_own(self, value: bytes) -> bool:
        """Whether these bytes were sent from here, so that nothing in them is news."""
        return hashlib.sha256(value).digest() in self._own

    def send(self, record: OutRecord, *, token: int) -> None:
        """As ``LogWriter.send``."""
        self._writer.send(record, token=token)
        if record.topic == topics.RESULTS and record.value is not None:
            self._own[hashlib.sha256(record.value).digest()] = None
            if len(self._own) > _REMEMBERED:
                self._own.popitem(last=False)

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        """As ``LogWriter.acks``."""
        acks = self._writer.acks(timeout_s)
        for ack in acks:
            if ack.ok and ack.position is not None and ack.offset >= 0:
                self._appended(ack.position, ack.offset)
        return acks

    def _appended(self, position: LogPosition, offset: int) -> None:
        """An acknowledgement may not say which log it is of (a real cluster's does not). One that lies below what was
        there already is of a log made anew: then nothing is known, and nothing is proven, until the next start."""
        place = (position.topic, position.partition)
        current = self._current.get(place)
        if current is None:
            return
        if position.log_id not in ("", current.log_id) or offset < self._next[current]:
            del self._current[place]
        else:
            self._next[current] = offset + 1

    def flush(self, timeout_s: float) -> int:
        """As ``LogWriter.flush``."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """As ``LogWriter.close``."""
        self._writer.close()

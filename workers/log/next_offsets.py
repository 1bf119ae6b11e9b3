"""The next offset of every partition that is being read, and what the client's messages mean for it.

Called by both readers and by ``topologies``; calls nothing. Must never pass over a record that it did not return,
except by a ``Gap``.
"""

from collections.abc import Iterable, Mapping
from operator import methodcaller
from typing import TypeAlias

from confluent_kafka import Message, TopicPartition

from workers.domain.log.record import Gap, Headers, LogPosition, Record

Partition: TypeAlias = tuple[str, int]
"""Topic and number: a partition as the client names it, without its log's id."""

_HEADERS_OF = methodcaller("headers")
"""Any producer chooses its header names. For one that is not UTF-8 confluent-kafka 2.16 returns a list with a hole in
it *and* leaves an exception set. Called as a plain method, the interpreter's fast path does not check, and the
exception surfaces some lines later, outside any ``try`` around the call (measured: 196 times of 200). Called through
here the result is checked at once."""

_GONE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})


class NextOffsets:
    """Where one reader stands."""

    def __init__(self) -> None:
        self._next: dict[Partition, tuple[LogPosition, int]] = {}
        self.lost: set[Partition] = set()
        """Partitions whose next offset the log does not have."""

    def start(self, offsets: Mapping[LogPosition, int]) -> None:
        """Read these, and nothing else."""
        self._next = {(position.topic, position.partition): (position, next_) for position, next_ in offsets.items()}
        self.lost = set()

    def take(self, messages: Iterable[Message]) -> list[Record]:
        """The records among ``messages`` that are next in their partitions; notes offsets that are gone."""
        records = []
        for message in messages:
            partition = (message.topic() or "", message.partition() or 0)
            if partition not in self._next:  # it was revoked while the message was under way
                continue
            error = message.error()
            if error is not None:
                if error.name() in _GONE:
                    self.lost.add(partition)
                continue
            position, next_offset = self._next[partition]
            offset = message.offset()
            if offset is None or offset < next_offset:  # fetched before the offset was set anew
                continue
            self._next[partition] = (position, offset + 1)
            records.append(_record(position, offset, message))
        return records

    def topics(self) -> set[str]:
        """What is being read."""
        return {topic for topic, _ in self._next}

    def note_replaced(self, found: Iterable[LogPosition]) -> None:
        """``found`` are a topic's partitions as it is now: what is read under another log id is lost.

        One partition of a topic that was recreated may hold no record yet, or already more than was read of the old
        one, so the broker finds nothing wrong with its offset.
        """
        for position in found:
            partition = (position.topic, position.partition)
            if partition in self._next and self._next[partition][0].log_id != position.log_id:
                self.lost.add(partition)

    def lost_positions(self) -> list[LogPosition]:
        """The positions in ``lost``."""
        return [self._next[partition][0] for partition in sorted(self.lost)]

    def resume(self, lows: Mapping[LogPosition, int], now: Mapping[Partition, LogPosition]) -> list[Gap]:
        """Continue from the oldest record that is left; ``now`` holds positions under the log ids they have by now."""
        gaps = []
        for old, low in lows.items():
            partition = (old.topic, old.partition)
            position = now.get(partition, old)
            expected = self._next[partition][1]
            replaced = position.log_id != old.log_id
            reason = "log_replaced" if replaced else "log_expired" if expected < low else "log_shorter"
            gaps.append(Gap(old, expected, low, reason))
            self._next[partition] = (position, low)
            self.lost.discard(partition)
        return gaps

    def assignment(self) -> list[TopicPartition]:
        """All of them as the client's type."""
        return [TopicPartition(*partition, offset) for partition, (_, offset) in self._next.items()]


def _record(position: LogPosition, offset: int, message: Message) -> Record:
    kind, milliseconds = message.timestamp()
    return Record(
        position=position,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=_headers(message),
        timestamp_ns=milliseconds * 1_000_000 if kind else 0,
    )


def _headers(message: Message) -> Headers:
    try:
        found = _HEADERS_OF(message)
    except (UnicodeDecodeError, SystemError):
        return ()
    pairs = found.items() if isinstance(found, dict) else found or ()
    return tuple((name, value.encode() if isinstance(value, str) else value or b"") for name, value in pairs)

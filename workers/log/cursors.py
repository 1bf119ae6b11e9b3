"""Where a reader stands in each partition, and what the client's messages mean for that.

Called by both readers; calls nothing. Must never move a cursor over a record it did not hand out, except by a ``Gap``.
"""

from collections.abc import Iterable, Mapping
from operator import methodcaller
from typing import TypeAlias

from confluent_kafka import Message, TopicPartition

from workers.domain.log.record import Gap, Headers, LogPosition, Record

Place: TypeAlias = tuple[str, int]

_HEADERS_OF = methodcaller("headers")
"""Anybody who may write to a topic chooses its header names. For one that is not UTF-8 confluent-kafka 2.16 returns a
list with a hole in it *and* leaves an exception behind. Called as a plain method, the interpreter's fast path does not
look, and the exception comes up some lines later, outside any ``try`` around the call (measured: 196 times of 200).
Called through here the result is checked at once."""

_GONE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})


class Cursors:
    """The next offset of every partition that is being read."""

    def __init__(self) -> None:
        self._at: dict[Place, tuple[LogPosition, int]] = {}
        self.lost: set[Place] = set()
        """Partitions whose next offset the log does not have."""

    def start(self, offsets: Mapping[LogPosition, int]) -> None:
        """Read these, and nothing else."""
        self._at = {(position.topic, position.partition): (position, next_) for position, next_ in offsets.items()}
        self.lost = set()

    def forget(self, places: Iterable[Place]) -> None:
        """Read these no longer."""
        for place in places:
            self._at.pop(place, None)
            self.lost.discard(place)

    def take(self, messages: Iterable[Message]) -> list[Record]:
        """The records among ``messages`` that are next in their partitions; takes note of offsets that are gone."""
        records = []
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            if place not in self._at:  # of a partition that was taken away while the message was under way
                continue
            error = message.error()
            if error is not None:
                if error.name() in _GONE:
                    self.lost.add(place)
                continue
            position, next_offset = self._at[place]
            offset = message.offset()
            if offset is None or offset < next_offset:  # fetched before the cursor was set anew
                continue
            self._at[place] = (position, offset + 1)
            records.append(_record(position, offset, message))
        return records

    def topics(self) -> set[str]:
        """What is being read."""
        return {topic for topic, _ in self._at}

    def replaced(self, found: Iterable[LogPosition]) -> None:
        """These are a topic's partitions as it stands now: what is read under another log's id is lost.

        One partition of a log that was made anew may hold no record yet, or already hold more than was read of the old
        one, so the broker finds nothing wrong with its offset.
        """
        for position in found:
            place = (position.topic, position.partition)
            if place in self._at and self._at[place][0].log_id != position.log_id:
                self.lost.add(place)

    def lost_positions(self) -> list[LogPosition]:
        """The positions in ``lost``."""
        return [self._at[place][0] for place in sorted(self.lost)]

    def resume(self, lows: Mapping[LogPosition, int], now: Mapping[Place, LogPosition]) -> list[Gap]:
        """Go on from the oldest record that is left; ``now`` holds positions under the ids their logs have by now."""
        gaps = []
        for old, low in lows.items():
            place = (old.topic, old.partition)
            position = now.get(place, old)
            expected = self._at[place][1]
            replaced = position.log_id != old.log_id
            reason = "log_replaced" if replaced else "log_expired" if expected < low else "log_shorter"
            gaps.append(Gap(old, expected, low, reason))
            self._at[place] = (position, low)
            self.lost.discard(place)
        return gaps

    def assignment(self) -> list[TopicPartition]:
        """All cursors in the client's words."""
        return [TopicPartition(*place, offset) for place, (_, offset) in self._at.items()]


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

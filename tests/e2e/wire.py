"""The bus as an outsider sees it: confluent-kafka and the independent reader, none of our own code.

Used by `client.py` and the tests. Reads every partition of the topics that record what happened, from the first record
on, and keeps all of it. It must never join a group or commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.independent_reader import IndependentReader, Read

REPORTED = ("response.results", "response.audit", "response.deadletter", "fleet.nodes")
"""What workers say of what they did."""


@dataclass(frozen=True, slots=True)
class WireRecord:
    """One record, as it lay in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    read: Read


class Wire:
    """Every record of some topics."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str] = REPORTED, *, fetch_wait_ms: int = 100) -> None:
        self._reader = IndependentReader()
        self._topics = topics
        self._records: dict[str, list[WireRecord]] = {topic: [] for topic in topics}
        self._tombstones = 0
        settings = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "outsider",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": fetch_wait_ms,
            "log_level": 0,
            "reconnect.backoff.max.ms": 500,
        }
        self._consumer = Consumer(settings)
        # Asks over connections of its own: on the other's, every question would wait behind a parked fetch.
        self._asker = Consumer(settings)
        known = self._asker.list_topics(timeout=20).topics
        self._places = [(topic, number) for topic in topics for number in known[topic].partitions]
        self._consumer.assign([TopicPartition(topic, number, 0) for topic, number in self._places])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
        self._asker.close()

    def look(self, timeout_s: float = 0.1) -> int:
        """Read what there is, waiting up to `timeout_s` for the first; how many records."""
        count = 0
        message = self._consumer.poll(timeout_s)
        while message is not None:
            error = message.error()
            if error is None:
                self._take(message)
                count += 1
            else:
                assert not error.fatal(), f"the outsider cannot read: {error}"
            message = self._consumer.poll(0)
        return count

    def read_to_the_end(self, within_s: float = 30.0) -> None:
        """Until every partition has been read to where it ends now."""
        deadline = time.monotonic() + within_s
        ends = {place: self._end(*place, deadline=deadline) for place in self._places}
        while True:
            self.look()
            at = {(place.topic, place.partition): place.offset for place in self._consumer.position(self._parts(ends))}
            if all(end == 0 or at[place] >= end for place, end in ends.items()):
                return
            assert time.monotonic() < deadline, "the log's end was not reached"

    def _end(self, topic: str, number: int, *, deadline: float) -> int:
        """Where a partition ends now; 0 where it is empty."""
        while True:
            try:
                low, high = self._asker.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
            except (
                KafkaException
            ):  # its leader has just moved, or its broker was killed: the asker learns that by asking
                assert time.monotonic() < deadline, f"nobody says where {topic}/{number} ends"
                self._asker.list_topics(timeout=20)
            else:
                return high if high > low else 0

    def records(self, topic: str) -> Sequence[WireRecord]:
        """What lay in a topic, in the order it was read."""
        return self._records[topic]

    def results(self) -> list[Mapping[str, Any]]:
        """Every result."""
        return [
            each.read.fields for each in self._records["response.results"] if each.read.name.endswith("ActionResult")
        ]

    def audit(self) -> list[Mapping[str, Any]]:
        """Every audit record."""
        return [each.read.fields for each in self._records["response.audit"]]

    def dead_letters(self) -> list[Mapping[str, Any]]:
        """Every dead letter."""
        return [each.read.fields for each in self._records["response.deadletter"]]

    def _take(self, message: Any) -> None:
        value = message.value()
        if value is None:
            self._tombstones += 1
            return
        try:
            read = self._reader.read(value)
        except (AssertionError, KeyError):
            read = Read("unreadable", {})
        headers = [(name, bytes(content)) for name, content in message.headers() or ()]
        at = (message.topic(), message.partition(), message.offset())
        self._records[message.topic()].append(WireRecord(*at, message.key() or b"", value, headers, read))

    @staticmethod
    def _parts(places: Mapping[tuple[str, int], int]) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic, number in places]


@dataclass(frozen=True, slots=True)
class Put:
    """One record to write as it is."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    """-1: wherever the client's partitioner puts it."""


def put(bootstrap_servers: str, records: Iterable[Put]) -> None:
    """Write raw records, and wait until the broker has every one."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "log_level": 0})
    failed: list[str] = []

    def reported(error: KafkaError | None, message: object) -> None:
        if error is not None:
            failed.append(str(error))

    for record in records:
        while True:
            try:
                producer.produce(record.topic, record.value, record.key, record.partition, on_delivery=reported)
            except BufferError:
                producer.poll(0.1)
            else:
                break
    assert producer.flush(60) == 0
    assert not failed, failed[:3]

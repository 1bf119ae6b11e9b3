"""The three logs that the behaviour suite runs on: in memory, embedded, and a real Kafka, behind one face.

Used by test_log_ports.py. A rig makes topics and ports and can damage its log; what it cannot do it lists in `cannot`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Protocol, TypeVar

from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import Producer

from tests.fakes.bus import FakeBus
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster
from tests.kafka.embedded import FaultyBroker
from tests.kafka.target import KafkaTarget, unique_topic
from workers.domain.log.record import OutRecord
from workers.log.config import MAX_RECORD_BYTES
from workers.log.ports import GroupReader, LogReader, LogWriter
from workers.log.readers import KafkaGroupReader, KafkaLogReader
from workers.log.writer import KafkaLogWriter
from workers.settings import KafkaSecurity, KafkaSettings
from workers.system.clock import SystemClock


class Closable(Protocol):
    def close(self) -> None: ...


P = TypeVar("P", bound=Closable)


class Rig(ABC):
    """One log, and its ports. Everything made by it is closed with it."""

    name: str
    cannot: ClassVar[Mapping[str, str]] = {}
    """What this log is unable to do, and why."""
    max_bytes = MAX_RECORD_BYTES

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.telemetry = FakeTelemetry()

    def topic(self, partitions: int = 1) -> str:
        """A new topic."""
        topic = unique_topic("ports")
        self._create(topic, partitions)
        return topic

    def reader(self) -> LogReader:
        return self._closing(self._new_reader())

    def group_reader(self, group: str) -> GroupReader:
        return self._closing(self._new_group_reader(group))

    def writer(self) -> LogWriter:
        return self._closing(self._new_writer())

    def close(self) -> None:
        self._stack.close()

    @abstractmethod
    def append_at(self, topic: str, value: bytes, at_ns: int) -> None:
        """One record with that time."""

    @abstractmethod
    def expire(self, topic: str, below: int) -> None:
        """Retention takes what lies below an offset of partition 0 (at least)."""

    @abstractmethod
    def recreate(self, topic: str, partitions: int = 1) -> None:
        """Delete the topic and make it anew, empty."""

    @abstractmethod
    def down(self) -> None: ...

    @abstractmethod
    def up(self) -> None: ...

    @abstractmethod
    def _create(self, topic: str, partitions: int) -> None: ...

    @abstractmethod
    def _new_reader(self) -> LogReader: ...

    @abstractmethod
    def _new_group_reader(self, group: str) -> GroupReader: ...

    @abstractmethod
    def _new_writer(self) -> LogWriter: ...

    def _closing(self, port: P) -> P:
        self._stack.callback(port.close)
        return port


class FakeRig(Rig):
    name = "fake"

    def __init__(self) -> None:
        super().__init__()
        self._clock = SettableClock()
        self._bus = FakeBus(clock=self._clock)

    def append_at(self, topic: str, value: bytes, at_ns: int) -> None:
        self._clock.at_ns = at_ns
        self._bus.append(OutRecord(topic, None, value, partition=0))

    def expire(self, topic: str, below: int) -> None:
        self._bus.truncate(topic, below=below)

    def recreate(self, topic: str, partitions: int = 1) -> None:
        self._bus.create_topic(topic, partitions)

    def down(self) -> None:
        self._bus.down()

    def up(self) -> None:
        self._bus.up()

    def _create(self, topic: str, partitions: int) -> None:
        self._bus.create_topic(topic, partitions)

    def _new_reader(self) -> LogReader:
        return self._bus.reader(waits=True)

    def _new_group_reader(self, group: str) -> GroupReader:
        return self._bus.group_reader(group, waits=True)

    def _new_writer(self) -> LogWriter:
        return self._bus.writer(waits=True)


class SettableClock:
    def __init__(self) -> None:
        self.at_ns = 0

    def now_ns(self) -> int:
        return self.at_ns


class _KafkaRig(Rig):
    """What the embedded broker and the real one share: our adapters."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__()
        self.settings = settings
        self._producer: Producer | None = None

    def append_at(self, topic: str, value: bytes, at_ns: int) -> None:
        producer = Producer({"bootstrap.servers": self.settings.bootstrap_servers})
        producer.produce(topic, value, partition=0, timestamp=at_ns // 1_000_000)
        assert producer.flush(10) == 0

    def _new_reader(self) -> LogReader:
        return KafkaLogReader(self.settings, telemetry=self.telemetry, clock=SystemClock())

    def _new_group_reader(self, group: str) -> GroupReader:
        return KafkaGroupReader(self.settings, group, telemetry=self.telemetry, clock=SystemClock())

    def _new_writer(self) -> LogWriter:
        return KafkaLogWriter(self.settings, telemetry=self.telemetry, clock=SystemClock())


def loopback(servers: str, **more: Any) -> KafkaSettings:
    """Settings for a broker on this machine."""
    return KafkaSettings(
        bootstrap_servers=servers, security=KafkaSecurity(protocol="PLAINTEXT"), insecure_dev=True, **more
    )


class EmbeddedRig(_KafkaRig):
    name = "embedded"
    cannot: ClassVar[Mapping[str, str]] = {
        "find_by_time": "the mock cluster answers -1 to every look-up by time, which is read as earliest",
        "recreate": "the mock cluster cannot delete a topic",
        "refuse_unknown_topics": "the mock cluster creates any topic that is written to",
    }

    def __init__(self) -> None:
        self._broker = FaultyBroker({})
        super().__init__(loopback(self._broker.bootstrap_servers, fetch_wait_ms=5, log_id="embedded-log"))
        self._stack.callback(self._broker.close)

    def expire(self, topic: str, below: int) -> None:
        # It keeps five MiB a partition and forgets whole batches; these are one record each.
        writer = self.writer()
        for token in range(12):
            writer.send(OutRecord(topic, None, bytes(900_000), partition=0), token=token)
            assert writer.flush(10) == 0

    def recreate(self, topic: str, partitions: int = 1) -> None:
        raise NotImplementedError(self.cannot["recreate"])

    def down(self) -> None:
        self._broker.down()

    def up(self) -> None:
        self._broker.up()

    def _create(self, topic: str, partitions: int) -> None:
        self._broker.create_topic(topic, partitions)


class RealRig(_KafkaRig):
    name = "kafka"

    def __init__(self, kafka: KafkaTarget, killable: Callable[[], KafkaCluster]) -> None:
        # A broker holds one connection's requests up behind a parked fetch, so each change of an assignment takes up
        # to the wait; the default of 10 s only makes the suite slow.
        super().__init__(loopback(kafka.bootstrap_servers, fetch_wait_ms=500))
        self._kafka = kafka
        self._killable = killable

    def expire(self, topic: str, below: int) -> None:
        place = TopicPartition(topic, 0, below)
        for future in self._kafka.admin.delete_records([place]).values():
            future.result(20)

    def recreate(self, topic: str, partitions: int = 1) -> None:
        self._kafka.delete_topic(topic)
        self._kafka.create_topic(topic, partitions)

    def down(self) -> None:
        self._killable().kill()

    def up(self) -> None:
        self._killable().restart()

    def _create(self, topic: str, partitions: int) -> None:
        self._kafka.create_topic(topic, partitions)
        self._stack.callback(self._kafka.delete_topic, topic)

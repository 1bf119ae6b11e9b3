"""Our Kafka adapters on a real broker that dies, and with the waits of production."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.contract.log_rigs import loopback
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster
from tests.kafka.target import KafkaTarget, unique_topic
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.ids import ChainId
from workers.domain.log.record import Delivery, Earliest, Gap, Offset, OutRecord, Record
from workers.log.cluster_facts import brokers
from workers.log.memory_outbox import MemoryOutbox
from workers.log.readers import KafkaGroupReader, KafkaLogReader
from workers.log.relay import OutboxRelay
from workers.log.writer import KafkaLogWriter
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow]

PRODUCTION_WAIT_S = 10.0


def read(reader: KafkaLogReader | KafkaGroupReader, count: int, *, within_s: float = 60) -> list[Delivery]:
    found: list[Delivery] = []
    deadline = time.monotonic() + within_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} came"
        found += reader.poll(0.5)
    return found


def relay_on(kafka: KafkaTarget, outbox: MemoryOutbox) -> tuple[OutboxRelay, KafkaLogWriter]:
    clock, telemetry = SystemClock(), FakeTelemetry()
    writer = KafkaLogWriter(loopback(kafka.bootstrap_servers), telemetry=telemetry, clock=clock)
    return (
        OutboxRelay(outbox, writer, failpoints=FakeFailpoints(), telemetry=telemetry, clock=clock),
        writer,
    )


def test_an_outbox_reaches_a_broker_that_is_killed_three_times_meanwhile(
    killable_kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("outbox")
    outbox = MemoryOutbox(ChainId("test"))
    relay, writer = relay_on(killable_kafka, outbox)
    for number in range(3_000):
        outbox.publish(OutRecord(topic, b"k", b"%d" % number))
        if number % 1_000 == 500:
            killable_kafka.kill()
            relay.step(0.2)
            killable_kafka.restart()
        relay.step()
    assert relay.drain(60) == 0
    writer.close()
    reader = KafkaLogReader(
        loopback(killable_kafka.bootstrap_servers, fetch_wait_ms=500), telemetry=FakeTelemetry(), clock=SystemClock()
    )
    reader.assign(dict.fromkeys(reader.partitions(topic), Earliest()))
    found = [record.value for record in read(reader, 3_000) if isinstance(record, Record)]
    reader.close()
    assert found == [b"%d" % number for number in range(3_000)], "once each, in order, without a restart of our own"


def test_the_cluster_names_its_brokers(kafka: KafkaTarget) -> None:
    settings = loopback(kafka.bootstrap_servers)
    found = brokers(settings, telemetry=FakeTelemetry(), clock=SystemClock())
    assert {port for _, port in found} >= {int(each.rpartition(":")[2]) for each in kafka.bootstrap_servers.split(",")}
    assert all(host for host, _ in found)


def test_an_unreachable_cluster_names_no_brokers() -> None:
    with pytest.raises(TransientFailure):
        brokers(loopback("127.0.0.1:9"), telemetry=FakeTelemetry(), clock=SystemClock())


def test_a_member_of_a_group_reports_an_unknown_topic(kafka: KafkaTarget) -> None:
    telemetry = FakeTelemetry()
    topic = unique_topic("late")
    reader = KafkaGroupReader(
        loopback(kafka.bootstrap_servers, fetch_wait_ms=500),
        unique_topic("g"),
        telemetry=telemetry,
        clock=SystemClock(),
    )
    reader.subscribe([topic], fresh=Earliest())
    deadline = time.monotonic() + 30
    while not any(fields.get("kind") == "UNKNOWN_TOPIC_OR_PART" for _, _, fields in telemetry.lines):
        assert time.monotonic() < deadline, telemetry.lines
        assert list(reader.poll(0.5)) == []
    reader.close()


def until_refused(*readers: KafkaGroupReader) -> tuple[KafkaGroupReader, PermanentFailure]:
    """Poll them in turn until one refuses for good; which, and what it says."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for reader in readers:
            try:
                reader.poll(0.2)
            except PermanentFailure as refusal:
                return reader, refusal
            except TransientFailure:
                continue
    raise AssertionError("none refused")


def test_of_two_members_with_one_name_one_gives_up_and_the_other_reads_on(
    kafka: KafkaTarget, new_topic: Callable[..., str]
) -> None:
    """A responder that was killed takes its own place again so. Thrown out once, a member tries again: it may have been
    its own former self. Two that were given one name by mistake throw each other out until one ends."""
    topic, group = new_topic("named", 2), unique_topic("g")
    outbox = MemoryOutbox(ChainId("test"))
    relay, writer = relay_on(kafka, outbox)
    for number in range(2):
        outbox.publish(OutRecord(topic, b"k", b"%d" % number, partition=number))
    assert relay.drain(30) == 0
    writer.close()
    settings = loopback(kafka.bootstrap_servers, fetch_wait_ms=500)
    first, second = (
        KafkaGroupReader(settings, group, member="one", telemetry=FakeTelemetry(), clock=SystemClock())
        for _ in range(2)
    )
    first.subscribe([topic], fresh=Earliest())
    assert len(read(first, 2)) == 2
    second.subscribe([topic], fresh=Earliest())
    assert len(read(second, 2)) == 2
    gone, refusal = until_refused(first, second)
    assert refusal.reason == "member_fenced"
    (left,) = {first, second} - {gone}
    gone.close()
    for number in range(2, 4):
        outbox.publish(OutRecord(topic, b"k", b"%d" % number, partition=number % 2))
    relay, writer = relay_on(kafka, outbox)
    assert relay.drain(30) == 0
    writer.close()
    seen: set[bytes | None] = set()
    while not {b"2", b"3"} <= seen:
        seen |= {each.value for each in read(left, 1) if isinstance(each, Record)}
    left.close()


def test_neither_a_new_assignment_nor_a_gap_waits_behind_a_parked_fetch(
    kafka: KafkaTarget, new_topic: Callable[..., str]
) -> None:
    first, second = new_topic("first"), new_topic("second", 2)
    outbox = MemoryOutbox(ChainId("test"))
    relay, writer = relay_on(kafka, outbox)
    outbox.publish(OutRecord(second, b"k", b"there", partition=0))
    assert relay.drain(30) == 0
    settings = loopback(kafka.bootstrap_servers)
    assert settings.fetch_wait_ms == PRODUCTION_WAIT_S * 1_000
    reader = KafkaLogReader(settings, telemetry=FakeTelemetry(), clock=SystemClock())
    reader.assign(dict.fromkeys(reader.partitions(first), Earliest()))
    reader.poll(1.0)  # nothing there: the broker parks the fetch
    begun = time.monotonic()
    lost, whole = reader.partitions(second)
    reader.assign({lost: Offset(500), whole: Earliest()})
    gap, record = read(reader, 2)
    spent = time.monotonic() - begun
    reader.close()
    writer.close()
    assert isinstance(gap, Gap)
    assert isinstance(record, Record)
    assert spent < PRODUCTION_WAIT_S / 2

"""A topic of operators' records, as their commands use it: read whole, and appended to.

Called by ``topologies`` and by wiring; calls Kafka. Must never take silence for the end of the log: a record that is
overlooked would be made a second time.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException

from workers.domain.errors import TransientFailure
from workers.domain.log.record import Earliest, LogPosition, OutRecord, Record
from workers.log.client_events import ClientEvents, could_not_open, unavailable
from workers.log.cluster_facts import ClusterFacts
from workers.log.config import reader_config
from workers.log.next_offsets import NextOffsets
from workers.log.writer import KafkaLogWriter
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 20.0

_TO_THE_END: Final = {"enable.partition.eof": True, "fetch.wait.max.ms": 100}
"""A broker reports the end of a partition when its fetch wait is over: a person must not wait a node's ten seconds."""


def whole_topic(kafka: KafkaSettings, topic: str, *, telemetry: Telemetry, clock: Clock) -> Sequence[Record]:
    """Everything that a topic holds; nothing where there is no such topic.

    Raises:
        TransientFailure: the cluster is unreachable.
    """
    facts = ClusterFacts(kafka, ClientEvents(telemetry, clock))
    try:
        positions = facts.positions(topic)
    except TransientFailure as failure:
        if failure.reason != "unknown_topic":
            raise
        return ()
    starts = facts.offsets({position: Earliest() for position in positions})
    return _read_from(kafka, topic, starts, telemetry=telemetry, clock=clock)


def append(kafka: KafkaSettings, records: Sequence[OutRecord], *, telemetry: Telemetry, clock: Clock) -> None:
    """Append them in order; durable on return.

    Raises:
        MalformedMessage: ``oversize``.
        TransientFailure: the log did not take one in time; it may have it all the same.
    """
    writer = KafkaLogWriter(kafka, telemetry=telemetry, clock=clock)
    try:
        for token, record in enumerate(records):
            writer.send(record, token=token)
            writer.flush(_ASK_S)
            if not any(ack.ok and ack.token == token for ack in writer.acks()):
                raise TransientFailure(f"{record.topic} did not take the record in time", code="log_away")
    finally:
        writer.close()


def _read_from(
    kafka: KafkaSettings, topic: str, starts: Mapping[LogPosition, int], *, telemetry: Telemetry, clock: Clock
) -> Sequence[Record]:
    offsets, records, at_end = NextOffsets(), list[Record](), set[tuple[str | None, int | None]]()
    offsets.start(starts)
    until_ns = clock.monotonic_ns() + round(_ASK_S * 1e9)
    try:
        consumer = Consumer(reader_config(kafka) | _TO_THE_END, logger=ClientEvents(telemetry, clock))
    except KafkaException as error:
        raise could_not_open(error) from error
    try:
        consumer.assign(offsets.assignment())
        while len(at_end) < len(starts):
            if clock.monotonic_ns() > until_ns:
                raise TransientFailure(f"{topic} could not be read to its end in time", code="log_away")
            message = consumer.poll(0.5)
            if message is None:
                continue
            fault = message.error()
            if fault is not None and fault.name() == "_PARTITION_EOF":
                at_end.add((message.topic(), message.partition()))
            else:
                records += offsets.take([message])
    except KafkaException as error:
        raise unavailable(f"topic {topic}", error) from error
    finally:
        consumer.close()
    return records

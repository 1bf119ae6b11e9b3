"""``fleet.topology`` as the operator's commands use it: read whole and verified, and appended to.

Made by ``wiring`` for ``douse topics``; calls Kafka. Must never take silence for the end of the log, nor an expired
keyset for records without a signature: a generation that is overlooked would be made a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaException

from workers.domain.errors import ConfigError, MalformedMessage, Problem, TransientFailure
from workers.domain.log import topics
from workers.domain.log.record import Earliest, LogPosition, OutRecord, Record
from workers.domain.log.topology import Topology, first, objection
from workers.domain.trust.envelope import PayloadType
from workers.log.client_events import ClientEvents, could_not_open, unavailable
from workers.log.cluster_facts import ClusterFacts
from workers.log.config import reader_config
from workers.log.next_offsets import NextOffsets
from workers.log.writer import KafkaLogWriter
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry
from workers.wire.ports import RecordSigner, RecordVerifier

_ASK_S: Final = 20.0

_TO_THE_END: Final = {"enable.partition.eof": True, "fetch.wait.max.ms": 100}
"""A broker reports the end of a partition when its fetch wait is over: a person must not wait a node's ten seconds."""


@dataclass(frozen=True, slots=True)
class TopologyChains:
    """What the topic holds."""

    chains: Mapping[str, Sequence[Topology]]
    """By zone: its generations in order, from the second on."""
    ignored: Sequence[str]
    """Records that no worker follows, each with its reason."""


class TopologyLog:
    """Reads with one keyset, writes with one operator's key."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        verifier: RecordVerifier | None,
        signer: RecordSigner | None,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        """``verifier`` and ``signer`` are None where the operator named no keyset or no key."""
        self._kafka = kafka
        self._verifier = verifier
        self._signer = signer
        self._telemetry = telemetry
        self._clock = clock

    def read(self) -> TopologyChains:
        """Everything the topic holds, as dispatcher and nodes understand it.

        Raises:
            ConfigError: there are records, and no keyset to verify them with, or one that has expired.
            TransientFailure: the cluster is unreachable.
        """
        chains: dict[str, list[Topology]] = {}
        ignored = []
        for record in self._records():
            try:
                self._follow(record, chains)
            except MalformedMessage as fault:
                if fault.reason == "keyset_expired":
                    raise ConfigError((Problem("keys.keyset", fault.message),)) from fault
                ignored.append(f"{topics.TOPOLOGY}: record {record.offset} is ignored: {fault.reason}")
        return TopologyChains(chains, ignored)

    def write(self, topology: Topology) -> None:
        """Sign it and append it; durable on return.

        Raises:
            ConfigError: no operator's key was named.
            TransientFailure: the log did not take it in time; it may have it all the same.
        """
        if self._signer is None:
            raise ConfigError((Problem("keys.private_key", "is missing; only an operator's key signs a growth"),))
        value = self._signer.sign(PayloadType.TOPOLOGY, topology).value
        writer = KafkaLogWriter(self._kafka, telemetry=self._telemetry, clock=self._clock)
        try:
            writer.send(OutRecord(topics.TOPOLOGY, topology.key, value, partition=0), token=1)
            writer.flush(_ASK_S)
            if not any(ack.ok for ack in writer.acks()):
                raise TransientFailure(f"{topics.TOPOLOGY} did not take the record in time", code="log_away")
        finally:
            writer.close()

    def _follow(self, record: Record, chains: dict[str, list[Topology]]) -> None:
        if self._verifier is None:
            reason = f"is missing, and {topics.TOPOLOGY} holds records that must be verified: name the keyset"
            raise ConfigError((Problem("keys.keyset", reason),))
        opened = self._verifier.verify(record.value or b"", PayloadType.TOPOLOGY, Topology)
        topology = opened.record
        chain = chains.setdefault(topology.zone, [])
        if any((each.generation, each.partitions) == (topology.generation, topology.partitions) for each in chain):
            return
        fault = objection(topology, opened.signatory, chain[-1] if chain else first(topology.zone, 1))
        if fault:
            raise MalformedMessage(code=fault)
        chain.append(topology)

    def _records(self) -> Sequence[Record]:
        facts = ClusterFacts(self._kafka, ClientEvents(self._telemetry, self._clock))
        try:
            positions = facts.positions(topics.TOPOLOGY)
        except TransientFailure as failure:
            if failure.reason != "unknown_topic":
                raise
            return ()
        return self._read_from(facts.offsets({position: Earliest() for position in positions}))

    def _read_from(self, starts: Mapping[LogPosition, int]) -> Sequence[Record]:
        offsets, records, at_end = NextOffsets(), list[Record](), set[tuple[str | None, int | None]]()
        offsets.start(starts)
        until_ns = self._clock.monotonic_ns() + round(_ASK_S * 1e9)
        events = ClientEvents(self._telemetry, self._clock)
        try:
            consumer = Consumer(reader_config(self._kafka) | _TO_THE_END, logger=events)
        except KafkaException as error:
            raise could_not_open(error) from error
        try:
            consumer.assign(offsets.assignment())
            while len(at_end) < len(starts):
                if self._clock.monotonic_ns() > until_ns:
                    raise TransientFailure(f"{topics.TOPOLOGY} could not be read to its end in time", code="log_away")
                message = consumer.poll(0.5)
                if message is None:
                    continue
                fault = message.error()
                if fault is not None and fault.name() == "_PARTITION_EOF":
                    at_end.add((message.topic(), message.partition()))
                else:
                    records += offsets.take([message])
        except KafkaException as error:
            raise unavailable(f"topic {topics.TOPOLOGY}", error) from error
        finally:
            consumer.close()
        return records

"""``fleet.topology`` as the operator's commands use it: read whole and verified, and appended to.

Made by ``wiring`` for ``douse topics``; calls Kafka. Must never take an expired
keyset for records without a signature: a generation that is overlooked would be made a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.domain.errors import ConfigError, MalformedMessage, Problem
from workers.domain.log import topics
from workers.domain.log.record import OutRecord, Record
from workers.domain.log.topology import Topology, first, objection
from workers.domain.trust.envelope import PayloadType
from workers.log.whole_topic import append, whole_topic
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry
from workers.wire.ports import RecordSigner, RecordVerifier


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
        for record in whole_topic(self._kafka, topics.TOPOLOGY, telemetry=self._telemetry, clock=self._clock):
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
        record = OutRecord(topics.TOPOLOGY, topology.key, value, partition=0)
        append(self._kafka, [record], telemetry=self._telemetry, clock=self._clock)

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

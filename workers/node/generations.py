"""The generations of this node's command topic: which partitions it reads, and the signed records that announce them.

Called by ``executor``, from the feed's thread alone. Verifies every record of ``fleet.topology`` itself: one that no
operator signed, or that does not follow what is known, is audited once and never followed. An older generation is read
for as long as a command in it can live, and a generation that the journal has read from is read again by the next
process, even if the record that began it is withheld.
"""

import hashlib
from collections.abc import Mapping

from workers.domain.errors import PermanentFailure
from workers.domain.log.record import Record, TopicPartition
from workers.domain.log.routing import generation_of
from workers.domain.log.topology import READ_ON_NS, Topology, first, objection
from workers.domain.outcome import Scalar
from workers.domain.trust.envelope import PayloadType
from workers.node.failures import Failures, Unreadable
from workers.node.inspection import KEYSET_EXPIRED
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.wire.ports import VerifiedRecord


class Generations:
    """Follows one zone."""

    def __init__(self, services: Services, transitions: Transitions, *, partitions: int) -> None:
        """``partitions`` is how many generation 1 has.

        Raises:
            LimitExceeded, PermanentFailure: the journal cannot be read.
        """
        self._services = services
        self._transitions = transitions
        self._failures = Failures(services.telemetry)
        self._zone = services.identity.zone
        self._newest = first(self._zone, partitions)
        self._followed = {self._newest}
        self._until_ns: dict[TopicPartition, int | None] = {self._partition(self._newest): None}
        """By the monotonic clock; None is for good."""
        for position in services.journal.positions():
            if self.of(position.topic):
                self._until_ns.setdefault((position.topic, position.partition), None)

    def of(self, topic: str) -> int:
        """Which generation of this node's command topic it is; 0 for any other topic."""
        return generation_of(topic, self._zone)

    def partitions(self) -> tuple[TopicPartition, ...]:
        """Topic and partition of everything to read, the newest first."""
        now_ns = self._services.clock.monotonic_ns()
        self._until_ns = {
            partition: until for partition, until in self._until_ns.items() if until is None or until > now_ns
        }
        return tuple(sorted(self._until_ns, key=lambda partition: (-self.of(partition[0]), partition)))

    def take(self, record: Record) -> None:
        """One record of ``fleet.topology``. They are read from the first one at every start.

        Raises:
            LimitExceeded, PermanentFailure: the journal is unavailable, or ``keyset_expired``; nothing was followed.
        """
        verified = self._failures.readable(lambda: self._verified(record))
        if isinstance(verified, Unreadable):
            if verified.reason == KEYSET_EXPIRED:
                raise PermanentFailure(verified.message, code=KEYSET_EXPIRED)
            self._audit(record, "topology_refused", {"reason": verified.reason})
            return
        topology = verified.record
        if topology in self._followed or topology.zone != self._zone:
            return
        fault = objection(topology, verified.signatory, self._newest)
        detail: dict[str, Scalar] = {"generation": topology.generation, "partitions": topology.partitions}
        if fault:
            self._audit(record, "topology_refused", {"reason": fault, **detail})
        else:
            self._audit(record, "topology", detail)
            self._follow(topology)

    def _verified(self, record: Record) -> VerifiedRecord[Topology]:
        return self._services.verifier.verify(record.value or b"", PayloadType.TOPOLOGY, Topology)

    def _follow(self, topology: Topology) -> None:
        end_ns = self._services.clock.monotonic_ns() + READ_ON_NS
        older = {each for each in self._until_ns if self.of(each[0]) < topology.generation}
        ends = {each: end_ns for each in older if self._until_ns[each] is None}
        self._until_ns |= {**ends, self._partition(topology): None}
        self._newest = topology
        self._followed.add(topology)

    def _partition(self, topology: Topology) -> TopicPartition:
        return topology.place_of(self._services.identity.node_id)

    def _audit(self, record: Record, kind: str, detail: Mapping[str, Scalar]) -> None:
        """Write it once, though every start reads it again."""
        position = record.position
        if record.offset < (self._services.journal.next_offset(position) or 0):
            return
        origin: dict[str, Scalar] = {"log_id": position.log_id, "offset": record.offset}
        found = {**origin, "sha256": hashlib.sha256(record.value or b"").hexdigest(), **detail}
        with self._transitions.commit() as tx:
            self._services.recorder.audit(tx, kind, at_ns=self._services.time.now_ns(), detail=found)
            tx.advance(position, record.offset + 1)
        self._services.telemetry.log(kind, level="info" if kind == "topology" else "error", **found)

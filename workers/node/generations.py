"""The generations of this node's command topic: which partitions it reads, and the records that say so.

Called by the executor, from the feed's thread alone. Verifies every record of ``fleet.topology`` itself: one that no
operator signed, or that does not follow what is known, is audited once and never followed. Nothing is forgotten too
early: what an older generation still holds is read on for as long as a command can live, and what the journal has read
of a generation is read again by the next process, whoever hides the record that began it.
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
from workers.node.reading import KEYSET_EXPIRED
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
        self._until_ns: dict[TopicPartition, int | None] = {self._place(self._newest): None}
        """By the monotonic clock; None is for good."""
        for position in services.journal.positions():
            if self.of(position.topic):
                self._until_ns.setdefault((position.topic, position.partition), None)

    def of(self, topic: str) -> int:
        """Which generation of this node's command topic it is; 0 for any other topic."""
        return generation_of(topic, self._zone)

    def places(self) -> tuple[TopicPartition, ...]:
        """Topic and partition of everything to read, the newest first."""
        now_ns = self._services.clock.monotonic_ns()
        self._until_ns = {place: until for place, until in self._until_ns.items() if until is None or until > now_ns}
        return tuple(sorted(self._until_ns, key=lambda place: (-self.of(place[0]), place)))

    def take(self, record: Record) -> None:
        """One record of ``fleet.topology``. They are read from the first one at every start.

        Raises:
            LimitExceeded, PermanentFailure: the journal is away, or ``keyset_expired``; nothing was followed.
        """
        opened = self._failures.readable(lambda: self._opened(record))
        if isinstance(opened, Unreadable):
            if opened.reason == KEYSET_EXPIRED:
                raise PermanentFailure(opened.message, code=KEYSET_EXPIRED)
            self._say(record, "topology_refused", {"reason": opened.reason})
            return
        told = opened.record
        if told in self._followed or told.zone != self._zone:
            return
        fault = objection(told, opened.signatory, self._newest)
        said: dict[str, Scalar] = {"generation": told.generation, "partitions": told.partitions}
        if fault:
            self._say(record, "topology_refused", {"reason": fault, **said})
        else:
            self._say(record, "topology", said)
            self._follow(told)

    def _opened(self, record: Record) -> VerifiedRecord[Topology]:
        return self._services.verifier.verify(record.value or b"", PayloadType.TOPOLOGY, Topology)

    def _follow(self, told: Topology) -> None:
        end_ns = self._services.clock.monotonic_ns() + READ_ON_NS
        older = {place for place in self._until_ns if self.of(place[0]) < told.generation}
        ends = {place: end_ns for place in older if self._until_ns[place] is None}
        self._until_ns |= {**ends, self._place(told): None}
        self._newest = told
        self._followed.add(told)

    def _place(self, topology: Topology) -> TopicPartition:
        return topology.place_of(self._services.identity.node_id)

    def _say(self, record: Record, kind: str, detail: Mapping[str, Scalar]) -> None:
        """Once, though every start reads it again."""
        at = record.position
        if record.offset < (self._services.journal.next_offset(at) or 0):
            return
        place: dict[str, Scalar] = {"log_id": at.log_id, "offset": record.offset}
        found = {**place, "sha256": hashlib.sha256(record.value or b"").hexdigest(), **detail}
        with self._transitions.commit() as tx:
            self._services.recorder.audit(tx, kind, at_ns=self._services.time.now_ns(), detail=found)
            tx.advance(at, record.offset + 1)
        self._services.telemetry.log(kind, level="info" if kind == "topology" else "error", **found)

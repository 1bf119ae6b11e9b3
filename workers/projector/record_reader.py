"""One record in, one typed item out: verified, decoded, and checked for who may send it. Touches nothing.

Called by ``batch``; calls the verifier, the event reader and ``domain.trust.authority``. Never raises for what a record
holds: whatever cannot be believed is a ``Suspect``. When nothing can be verified, because this worker's keyset has
expired, it raises and the projector waits.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import FoldedStep
from workers.domain.history.sequence import node_sender, sender_of
from workers.domain.log import topics
from workers.domain.log.record import Record
from workers.domain.node_state import NodeState
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.authority import audit_objection, heartbeat_objection, result_objection
from workers.domain.trust.envelope import PayloadType
from workers.system.ports import Telemetry
from workers.wire.ports import Codec, EventReader, RecordVerifier

TOPICS: Final = (topics.RESULTS, topics.AUDIT, topics.NODES, topics.RUNTIME_EVENTS)
"""What history is made of, beside the unsigned topics that the settings name. Requests are not: the dispatcher's
REQUESTED record holds what it believed of them."""

_FORGED: Final = frozenset({"unknown_key", "revoked_key", "bad_signature", "wrong_role", "not_its_node"})
"""Reasons for which an envelope that can be read is not believed; for any other it cannot be read."""


@dataclass(frozen=True, slots=True)
class StepItem:
    """A step of an execution."""

    step: FoldedStep

    @property
    def sender(self) -> str:
        """Whose count its record number belongs to."""
        return sender_of(self.step.result)


@dataclass(frozen=True, slots=True)
class AuditItem:
    """An audit record."""

    record: AuditRecord
    payload: bytes
    signed: bytes


@dataclass(frozen=True, slots=True)
class HeartbeatItem:
    """A heartbeat."""

    state: NodeState
    payload: bytes

    @property
    def sender(self) -> str:
        """Whose count its record number belongs to."""
        return node_sender(self.state.node_id, self.state.incarnation)


@dataclass(frozen=True, slots=True)
class EventItem:
    """A detection."""

    event: RuntimeEvent
    payload: bytes


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record that is not believed."""

    record: Record
    reason: str
    message: str
    readable: bool
    """An envelope whose signatory is unknown or not allowed to send this; else bytes that are no message at all."""


Item: TypeAlias = StepItem | AuditItem | HeartbeatItem | EventItem | Suspect


class RecordReader:
    """Records to items."""

    def __init__(self, *, verifier: RecordVerifier, codec: Codec, events: EventReader, telemetry: Telemetry) -> None:
        self._verifier = verifier
        self._codec = codec
        self._events = events
        self._telemetry = telemetry

    def item(self, record: Record) -> Item:
        """The typed item.

        Raises:
            TransientFailure: ``keyset_expired``: what is genuine would be put aside as forged.
        """
        topic = record.position.topic
        if record.value is None:
            if topic == topics.NODES:
                message = "a record without a value has no signature, and takes no node out of history"
                return Suspect(record, "unsigned_tombstone", message, readable=True)
            return Suspect(record, "no_value", "a record without a value", readable=False)
        try:
            with self._telemetry.span(f"process {topic}", parent=record.headers):
                return self._read(topic, record, record.value)
        except MalformedMessage as error:
            if error.reason == "keyset_expired":
                raise TransientFailure(
                    f"{error.message}, then start the projector again; history waits meanwhile", code=error.reason
                ) from error
            return Suspect(record, error.reason, error.message, readable=error.reason in _FORGED)

    def _read(self, topic: str, record: Record, value: bytes) -> Item:
        match topic:
            case topics.RESULTS:
                result = self._verifier.verify(value, PayloadType.RESULT, ActionResult)
                if objection := result_objection(result.record, result.signatory):
                    return _refused(record, objection)
                return StepItem(FoldedStep(result.record, result.sha256, result.payload, value))
            case topics.AUDIT:
                audit = self._verifier.verify(value, PayloadType.AUDIT, AuditRecord)
                if objection := audit_objection(audit.record, audit.signatory):
                    return _refused(record, objection)
                return AuditItem(audit.record, audit.payload, value)
            case topics.NODES:
                heartbeat = self._verifier.verify(value, PayloadType.NODE_STATE, NodeState)
                if objection := heartbeat_objection(heartbeat.record, heartbeat.signatory):
                    return _refused(record, objection)
                return HeartbeatItem(heartbeat.record, heartbeat.payload)
            case _:
                event = self._events.read(record)
                return EventItem(event, self._codec.encode(event))


def _refused(record: Record, objection: str) -> Suspect:
    return Suspect(
        record, objection, "the signature is genuine, but its owner is not allowed to send this", readable=True
    )

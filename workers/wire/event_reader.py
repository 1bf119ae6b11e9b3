"""The doorway to hot JSON (msgspec): Falco's alerts, and the one reader of both event topics.

Called by the responder, the projector and HTTP ingestion through ``ports.EventReader``; calls ``domain.falco.alert``.
Avro is believed only inside an envelope, signed by a gateway or by the event's own node, on whichever topic it lies;
JSON only on a raw topic, which a worker reads where its setting ``unsigned_topics`` names it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from workers.domain.errors import MalformedMessage
from workers.domain.event import RuntimeEvent
from workers.domain.event_bounds import bounded
from workers.domain.falco.alert import event_from
from workers.domain.log import topics
from workers.domain.log.record import Record
from workers.domain.trust.authority import event_objection
from workers.domain.trust.envelope import PayloadType
from workers.wire.ports import Codec, RecordVerifier

LARGEST_ALERT: int = 1 << 20
"""Bytes; Kafka's own default bound of a record."""

_AVRO = b"\xc3\x01"
"""How every Avro single-object value begins."""


class DetectorEvents:
    """Reads ``falco.events`` (Falco's own JSON) and ``runtime.events`` (signed Avro)."""

    def __init__(self, codec: Codec, verifier: RecordVerifier | None) -> None:
        """Without a ``verifier`` there is no keyset, and no signed event can be read."""
        self._codec = codec
        self._verifier = verifier

    def read(self, record: Record) -> RuntimeEvent:
        if record.value is None:
            raise MalformedMessage("an event record without a value", code="no_value")
        # No JSON begins with Avro's marker: a Douse record on Falco's topic is judged as one, not as broken JSON.
        if record.position.topic == topics.RUNTIME_EVENTS or record.value.startswith(_AVRO):
            return bounded(self._signed(record.value))
        return event_from(decoded(record.value))

    def _signed(self, value: bytes) -> RuntimeEvent:
        if self._verifier is None:
            raise MalformedMessage("no keyset is known, so no signature can be verified", code="no_keyset")
        try:
            opened = self._verifier.verify(value, PayloadType.EVENT, RuntimeEvent)
        except MalformedMessage as fault:
            raise self._reported(fault, value) from fault
        if objection := event_objection(opened.record, opened.signatory):
            owner = f"the {opened.signatory.role} key of {opened.signatory.owner}"
            raise MalformedMessage(f"the signature is genuine, but {owner} may not report this event", code=objection)
        return opened.record

    def _reported(self, fault: MalformedMessage, value: bytes) -> MalformedMessage:
        """The fault, named as a reader of events needs it: an event without a signature, or no event at all."""
        if fault.reason == "wrong_type":
            return MalformedMessage(fault.message, code="wrong_record")
        if fault.reason == "not_an_envelope" and self._codec.names(value, RuntimeEvent):
            return MalformedMessage("an event without a signature", code="unsigned")
        cause = fault.__cause__  # why it is no envelope
        return cause if isinstance(cause, MalformedMessage) else fault


def decoded(data: bytes) -> Any:
    """The JSON value of one alert.

    Raises:
        MalformedMessage: oversize, not UTF-8, not JSON, or nested beyond reason.
    """
    if len(data) > LARGEST_ALERT:
        raise MalformedMessage(f"an alert of {len(data)} bytes; at most {LARGEST_ALERT} are read", code="oversize")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise MalformedMessage(f"not JSON: {str(error)[:200]}", code="undecodable") from None


def alerts_in(data: bytes) -> Sequence[Any]:
    """The alerts of a file or request body: one JSON object, a list of them, or one a line.

    Raises:
        MalformedMessage: a line that is no JSON, with its number.
    """
    try:
        whole = decoded(data)
    except MalformedMessage:
        return [_on_line(number, row) for number, row in enumerate(data.splitlines(), 1) if row.strip()]
    return whole if isinstance(whole, list) else [whole]


def _on_line(number: int, row: bytes) -> Any:
    try:
        return decoded(row)
    except MalformedMessage as error:
        raise MalformedMessage(f"line {number}: {error.message}", code=error.reason) from None

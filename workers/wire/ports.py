"""The seam between records and bytes.

A record travels in an envelope: its kind, its exact Avro bytes, and one worker's signature over them. Writing goes
through ``Recorder``, which numbers, signs and chains a record inside the caller's transaction, so that a record exists
exactly if its cause does. Reading goes through ``RecordVerifier``, which checks the signature over the bytes before it
decodes them. Whether a genuine signatory has the right to a record is decided in ``domain.trust.authority``.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workers.domain.event import RuntimeEvent
from workers.domain.ids import ExecutionId, KeyId
from workers.domain.log.record import Headers, OutRecord, Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import Values
from workers.domain.result import ActionResult
from workers.domain.trust.audit import ChainHead
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import Signatory

T = TypeVar("T")


class Codec(Protocol):
    """Records to bytes and back: Avro single-object encoding."""

    def encode(self, record: object) -> bytes:
        """Bytes that name their own schema. Raises ``TypeError`` for a class that has none."""

    def decode(self, data: bytes, as_: type[T]) -> T:
        """Raises ``MalformedMessage`` (``undecodable``, ``unknown_schema``, ``wrong_record``, ``oversize``)."""

    def names(self, data: bytes, kind: type) -> bool:
        """Whether bytes name this record's schema; nothing else of them is read."""


class EventReader(Protocol):
    """Detectors' records to events: Falco's JSON, which is unsigned, and signed events."""

    def read(self, record: Record) -> RuntimeEvent:
        """The event, bounded and normalised; the same bytes always give the same event. Does not block.

        Raises ``MalformedMessage``: ``no_value``, ``undecodable``, ``oversize``, ``not_an_object``, ``no_rule``,
        ``no_time``, ``unsigned``, ``wrong_role``, ``not_its_node``, or what ``RecordVerifier.verify`` raises;
        ``wrong_record`` for a record of Douse that is no event.
        """


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A signed record: ``value`` is what travels, ``payload`` the exact bytes inside that were signed."""

    value: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class VerifiedRecord(Generic[T]):
    """A verified record."""

    record: T
    payload: bytes
    sha256: str
    """Hex digest of ``payload``."""
    signatory: Signatory


class RecordSigner(Protocol):
    """Signs with this worker's one key."""

    @property
    def key_id(self) -> KeyId:
        """The key it signs with."""

    def sign(self, kind: PayloadType, record: object) -> SignedRecord:
        """Encode, sign, wrap. Does not block."""


class RecordVerifier(Protocol):
    """Verifies, and only then decodes."""

    def verify(self, value: bytes, kind: PayloadType, as_: type[T]) -> VerifiedRecord[T]:
        """The record inside, its signature checked over its exact bytes before they are decoded.

        Raises ``MalformedMessage``: ``oversize``, ``not_an_envelope``, ``wrong_type``, ``keyset_expired``,
        ``unknown_key``, ``revoked_key``, ``bad_signature``, and what ``Codec.decode`` raises. Whether that signatory
        has the right to this record is for the caller to decide.
        """


class RecordTx(Protocol):
    """What a transaction offers for writing signed, chained records with it."""

    def publish(self, record: OutRecord) -> None:
        """Put a record into the outbox, in order."""

    def next_record_no(self) -> int:
        """The number of this producer's next signed result or heartbeat; each call takes one."""

    def chain_head(self) -> ChainHead:
        """Where this producer's audit chain stands."""

    def set_chain_head(self, head: ChainHead) -> None:
        """Move the chain on."""


class Recorder(Protocol):
    """Writes this worker's signed records into a transaction: results, audit, heartbeats, dead letters."""

    def result(self, tx: RecordTx, result: ActionResult, *, trace: Headers = ()) -> bytes:
        """One step of an execution; ``record_no`` is filled in here. Returns the signed record as it travels."""

    def audit(
        self,
        tx: RecordTx,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = ...,
        actor: str = "",
        detail: Values = ...,
        trace: Headers = (),
    ) -> None:
        """The next record of this worker's chain."""

    def node_state(self, tx: RecordTx, state: NodeState) -> None:
        """A heartbeat; ``record_no`` is filled in here."""

    def dead_letter(self, tx: RecordTx, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """The original bytes to the dead letters, and one audit record about it."""

"""The port ``Recorder``: signed results, audit records, heartbeats and dead letters, written into a transaction.

Made by wiring with a worker's signer and codec; used by the step functions of node and dispatcher, and by every
worker for its audit chain. Nothing here reaches Kafka: a record is in the worker's own outbox when its transaction is
durable, or it never existed.

Text from the outside (file names, command lines, error messages) need not be Unicode and has no bound; what is written
here is always legible and bounded, because a record that cannot be written would stop the worker that must write it.
"""

import hashlib
from dataclasses import replace
from typing import Final

from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.log.record import Headers, OutRecord, Record
from workers.domain.log.topics import AUDIT, DEAD_LETTERS, NODES, RESULTS
from workers.domain.node_state import DeadLetter, NodeState
from workers.domain.outcome import NOTHING, PostCondition, Scalar, Values
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord, advance
from workers.domain.trust.envelope import PayloadType
from workers.wire.ports import Codec, RecordSigner, RecordTx

KEPT_BYTES: Final = 64 * 1024
"""Of a dead letter's value: enough to inspect, and far below a broker's bound of 1 MiB."""

KEPT_KEY_BYTES: Final = 1024
"""Of a dead letter's key, which travels twice; Douse's own keys are at most 200 bytes."""

KEPT_HEADER_BYTES: Final = 16 * 1024
"""Of a dead letter's headers, all together."""

LONGEST_TEXT: Final = 4096
"""Of one message or value, in characters: a path may have 4,096 bytes (PATH_MAX)."""


class ChainRecorder:
    """Writes for one worker."""

    def __init__(self, worker: str, *, signer: RecordSigner, codec: Codec) -> None:
        """``worker`` is the name that audit records and dead letters carry."""
        self._worker = worker
        self._signer = signer
        self._codec = codec

    def result(self, tx: RecordTx, result: ActionResult, *, trace: Headers = ()) -> bytes:
        """One step of an execution, keyed by node, or by execution while no node is resolved."""
        numbered = replace(
            result,
            record_no=tx.next_record_no(),
            message=legible(result.message),
            outputs=legible_values(result.outputs),
            configuration=legible_values(result.configuration),
            post_condition=_legible_condition(result.post_condition),
        )
        signed = self._signer.sign(PayloadType.RESULT, numbered)
        key = result.node_id or result.execution_id
        tx.publish(OutRecord(RESULTS, key.encode(), signed.value, trace))
        return signed.value

    def audit(
        self,
        tx: RecordTx,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = NO_EXECUTION,
        actor: str = "",
        detail: Values = NOTHING,
        trace: Headers = (),
    ) -> None:
        """The next record of the transaction's chain, which moves on with it."""
        head = tx.chain_head()
        record = AuditRecord(
            chain_id=head.chain_id,
            record_no=head.next_no,
            previous=head.hash,
            at_ns=at_ns,
            worker=self._worker,
            kind=kind,
            execution_id=execution_id,
            actor=legible(actor),
            detail=legible_values(detail),
        )
        signed = self._signer.sign(PayloadType.AUDIT, record)
        tx.publish(OutRecord(AUDIT, head.chain_id.encode(), signed.value, trace))
        tx.set_chain_head(advance(head, signed.payload))

    def node_state(self, tx: RecordTx, state: NodeState) -> None:
        """A heartbeat, keyed by node."""
        signed = self._signer.sign(PayloadType.NODE_STATE, replace(state, record_no=tx.next_record_no()))
        tx.publish(OutRecord(NODES, state.node_id.encode(), signed.value))

    def dead_letter(self, tx: RecordTx, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """The original bytes under their original key, and one audit record about it."""
        value = record.value if record.value is not None else b""
        digest = hashlib.sha256(value).hexdigest()
        key = record.key[:KEPT_KEY_BYTES] if record.key is not None else None
        letter = DeadLetter(
            topic=record.position.topic,
            partition=record.position.partition,
            offset=record.offset,
            log_id=record.position.log_id,
            key=key,
            value=record.value[:KEPT_BYTES] if record.value is not None else None,
            size=len(value),
            sha256=digest,
            headers=_bounded(record.headers),
            reason=reason,
            message=legible(message),
            worker=self._worker,
            at_ns=at_ns,
        )
        trace = _trace(record.headers)
        tx.publish(OutRecord(DEAD_LETTERS, key, self._codec.encode(letter), trace))
        coordinates: dict[str, Scalar] = {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "log_id": letter.log_id,
        }
        content: dict[str, Scalar] = {
            "reason": reason,
            "message": letter.message,
            "size": letter.size,
            "sha256": digest,
        }
        self.audit(tx, "dead_letter", at_ns=at_ns, detail={**coordinates, **content}, trace=trace)


def legible(text: str) -> str:
    """Text that UTF-8 can carry, and no more of it than ``LONGEST_TEXT``; what cannot travel is escaped."""
    cut = text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode()


def legible_values(values: Values) -> Values:
    """Values that can travel: text made legible, numbers beyond 64 bits as text."""
    return {legible(name): _legible_scalar(value) for name, value in values.items()} if values else NOTHING


def _legible_scalar(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return legible(value)
    return value if -(1 << 63) <= value < 1 << 63 else str(value)


def _legible_condition(condition: PostCondition | None) -> PostCondition | None:
    return replace(condition, detail=legible(condition.detail)) if condition is not None else None


def _bounded(headers: Headers) -> Headers:
    """As many of the first headers as fit; one that does not fit ends the list."""
    kept: list[tuple[str, bytes]] = []
    free = KEPT_HEADER_BYTES
    for name, value in headers:
        free -= len(name.encode("utf-8", "backslashreplace")) + len(value)
        if free < 0:
            break
        kept.append((legible(name), value))
    return tuple(kept)


def _trace(headers: Headers) -> Headers:
    """The trace context alone: other headers of the original record are dropped."""
    return tuple((name, value) for name, value in headers if name == "traceparent" and len(value) <= 64)

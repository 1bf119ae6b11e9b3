"""Domain values as rows of the tables, and rows as domain values. Pure but for the codec it is given.

Called by ``store``, ``transaction`` and ``queries``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import Row

from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep, Undo, fold
from workers.domain.history.search import SearchRow, short_container
from workers.domain.history.sequence import sender_of
from workers.domain.ids import ExecutionId, NodeId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord, link
from workers.store.history.tables import INDEXED
from workers.wire.ports import Codec

KEPT_BYTES: Final = 65_536
"""Most of a value that does not verify that is kept; its size and hash are of the whole."""

Values = Mapping[str, Any]

_SEARCHED: Final = tuple(field.name for field in fields(SearchRow))


def indexed(text: str) -> str:
    """A text as it is searched by: no byte that a database refuses, and never longer than ``INDEXED``."""
    clean = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if len(clean) <= INDEXED:
        return clean
    return clean[: INDEXED - 65] + "#" + hashlib.sha256(clean.encode()).hexdigest()


def position_row(position: LogPosition) -> Values:
    """The columns of a log position."""
    return {"log_id": position.log_id, "topic": position.topic, "partition": position.partition}


def step_row(step: FoldedStep) -> Values:
    """A step."""
    result = step.result
    return {
        "execution_id": indexed(result.execution_id),
        "producer": indexed(result.producer),
        "attempt": result.attempt,
        "seq": result.seq,
        "digest": step.digest,
        "sender": indexed(sender_of(result)),
        "record_no": result.record_no,
        "payload": step.payload,
        "signed": step.signed,
    }


def search_values(row: SearchRow) -> Values:
    """The columns of an execution."""
    values = {name: getattr(row, name) for name in _SEARCHED}
    return {name: indexed(value) if isinstance(value, str) else value for name, value in values.items()}


def event_row(event: RuntimeEvent, payload: bytes) -> Values:
    """An event."""
    return {
        "event_id": indexed(event.event_id),
        "digest": hashlib.sha256(payload).hexdigest(),
        "occurred_at_ns": event.occurred_at_ns,
        "host": indexed(event.host),
        "rule": indexed(event.rule),
        "container": short_container(event.container.id) if event.container is not None else "",
        "workload": indexed(event.workload),
        "cluster": indexed(event.cluster),
        "value": payload,
    }


def node_row(state: NodeState, payload: bytes, *, verified: bool, folded_at_ns: int) -> Values:
    """A heartbeat."""
    return {
        "node_id": indexed(state.node_id),
        "incarnation": indexed(state.incarnation),
        "record_no": state.record_no,
        "digest": hashlib.sha256(payload).hexdigest(),
        "at_ns": state.at_ns,
        "folded_at_ns": folded_at_ns,
        "verified": verified,
        "cluster": indexed(state.cluster),
        "value": payload,
    }


def audit_row(record: AuditRecord, payload: bytes, signed: bytes, *, verified: bool) -> Values:
    """An audit record, with the hash that the next one must hold."""
    return {
        "chain_id": indexed(record.chain_id),
        "record_no": record.record_no,
        "digest": hashlib.sha256(payload).hexdigest(),
        "previous": record.previous,
        "hash": link(payload, record.previous),
        "at_ns": record.at_ns,
        "execution_id": indexed(record.execution_id),
        "verified": verified,
        "payload": payload,
        "signed": signed,
    }


def unverified_row(position: LogPosition, offset: int, value: bytes, *, reason: str, at_ns: int) -> Values:
    """A record that does not verify."""
    return {
        **position_row(position),
        "at_offset": offset,
        "reason": reason,
        "at_ns": at_ns,
        "size": len(value),
        "sha256": hashlib.sha256(value).hexdigest(),
        "value": value[:KEPT_BYTES],
    }


def read_step(codec: Codec, row: Row[Any]) -> FoldedStep:
    """The step of a row."""
    return FoldedStep(codec.decode(row.payload, ActionResult), row.digest, row.payload, row.signed)


def read_execution(execution_id: ExecutionId, steps: Sequence[FoldedStep], *, whole: bool) -> Execution:
    """The execution that its steps amount to; without them unless ``whole``."""
    execution = fold(execution_id, steps)
    return execution if whole else replace(execution, steps=())


def read_undo(row: Row[Any]) -> Undo:
    """An undo, from its own row."""
    return Undo(
        execution_id=ExecutionId(row.execution_id),
        node_id=NodeId(row.node_id),
        actor=row.actor,
        stage=Stage(row.stage),
        outcome=Outcome(row.outcome) if row.outcome else None,
        code=row.code,
        requested_at_ns=row.requested_at_ns,
        ended_at_ns=row.ended_at_ns,
    )

"""What history is searched and compared by: the flat row of an execution, and the digest of a whole history.

Pure. Called by every implementation of ``HistoryStore``, so that two stores which hold the same steps answer the same
questions and give the same digest.
"""

import hashlib
from dataclasses import astuple, dataclass
from typing import Final

from workers.domain.history.execution import Execution
from workers.domain.ids import EventId, ExecutionId, NodeId

SHORT_CONTAINER: Final = 12
"""Hex digits of a container id that detectors send (Falco's ``container.id``); ids are compared by these."""

_MODULUS: Final = 1 << 256


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One execution, flat. Times are nanoseconds since the epoch, 0 where not reached."""

    execution_id: ExecutionId
    requested_at_ns: int
    node_id: NodeId
    host: str
    container: str
    rule: str
    actor: str
    action: str
    outcome: str
    stage: str
    code: str
    event_id: EventId
    caller_id: str
    undo_of: ExecutionId
    effect_holds: bool
    conflict: bool
    detected_at_ns: int
    claimed_at_ns: int
    ended_at_ns: int
    updated_at_ns: int


def search_row(execution: Execution) -> SearchRow:
    """The row of an execution: a function of its steps and nothing else."""
    request = execution.request
    target = execution.asked.target if execution.asked is not None else None
    return SearchRow(
        execution_id=execution.execution_id,
        requested_at_ns=execution.requested_at_ns,
        node_id=execution.node_id,
        host=request.host if request is not None else "",
        container=short_container(target.container if target is not None else ""),
        rule=request.causation.rule if request is not None else "",
        actor=request.actor.name if request is not None else "",
        action=execution.action,
        outcome=str(execution.outcome or ""),
        stage=str(execution.stage),
        code=execution.code,
        event_id=request.causation.event_id if request is not None else EventId(""),
        caller_id=request.caller_id if request is not None else "",
        undo_of=execution.undo_of,
        effect_holds=execution.effect_holds,
        conflict=execution.conflict,
        detected_at_ns=request.detected_at_ns if request is not None else 0,
        claimed_at_ns=execution.claimed_at_ns,
        ended_at_ns=execution.ended_at_ns,
        updated_at_ns=execution.updated_at_ns,
    )


def short_container(container_id: str) -> str:
    """The form in which a container id is searched, however long it was written."""
    return container_id[:SHORT_CONTAINER].lower()


class HistoryDigest:
    """The digest of a set of rows, whatever order they come in: the sum of their hashes, hashed with their number.

    It compares two histories of Douse's own; it is no defence against an attacker who chooses the rows.
    """

    def __init__(self) -> None:
        """Of no rows."""
        self._sum = 0
        self._count = 0

    def add(self, kind: str, *fields: str | int) -> None:
        """One row. Each field is hashed behind its type and length, so that no two rows share bytes."""
        row = hashlib.sha256()
        for value in (kind, *fields):
            text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b"%d" % value
            row.update(b"%c%d:" % (b"s" if isinstance(value, str) else b"i", len(text)) + text)
        self._sum = (self._sum + int.from_bytes(row.digest())) % _MODULUS
        self._count += 1

    def add_execution(self, row: SearchRow) -> None:
        """An execution's row."""
        self.add("execution", *(int(value) if isinstance(value, bool) else value for value in astuple(row)))

    def hexdigest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(self._count.to_bytes(8) + self._sum.to_bytes(32)).hexdigest()

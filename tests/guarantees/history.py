"""The promise that history keeps, as an object: it looks at a store and at the log, and complains where they differ.

The second opinion shares nothing with the projector but the words: it folds the whole log once, in its order, by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.fakes.stores import MemoryHistory
from workers.domain.errors import MalformedMessage
from workers.domain.history.execution import FoldedStep, fold
from workers.domain.history.queries import MAX_LIMIT, ExecutionQuery
from workers.domain.log import topics
from workers.domain.log.record import Record
from workers.domain.node_state import NodeState
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole
from workers.store.history.ports import HistoryStore, HistoryTx
from workers.wire.ports import Codec, EventReader, RecordVerifier


@dataclass(frozen=True, slots=True)
class ReplayChangesNothing:
    """History is the same after any duplication and reordering, after any crash, and after a rebuild from the log."""

    verifier: RecordVerifier
    codec: Codec
    events: EventReader

    def check(self, store: HistoryStore, log: Sequence[Record]) -> None:
        """Raises AssertionError when the store is not exactly what the log amounts to."""
        expected = self.folded(log)
        query = ExecutionQuery(limit=MAX_LIMIT)
        found = {row.execution_id: row for row in store.executions(query).rows}
        for wanted in expected.executions(query).rows:
            assert found.pop(wanted.execution_id, None) == wanted, f"{wanted.execution_id} is not the fold of its steps"
        assert not found, f"executions that the log does not know: {sorted(found)}"
        assert store.digest() == expected.digest(), "the digest differs: audit, events or heartbeats were lost or added"

    def folded(self, log: Iterable[Record]) -> MemoryHistory:
        """The log, folded once."""
        store = MemoryHistory(self.codec)
        with store.begin() as tx:
            for record in log:
                if record.value is not None:
                    with suppress(MalformedMessage):
                        self._fold_in(tx, record, record.value)
        return store

    def _fold_in(self, tx: HistoryTx, record: Record, value: bytes) -> None:
        match record.position.topic:
            case topics.RESULTS:
                reported = self.verifier.verify(value, PayloadType.RESULT, ActionResult)
                dispatched = reported.signatory.role is KeyRole.DISPATCHER and reported.record.producer == "dispatcher"
                if dispatched or (
                    reported.record.producer == "node" and reported.signatory.owner == reported.record.node_id
                ):
                    tx.put_steps([FoldedStep(reported.record, reported.sha256, reported.payload, value)])
                    execution_id = reported.record.execution_id
                    tx.put_execution(fold(execution_id, tx.steps([execution_id])[execution_id]))
            case topics.AUDIT:
                audit = self.verifier.verify(value, PayloadType.AUDIT, AuditRecord)
                tx.put_audit(audit.record, payload=audit.payload, signed=value, verified=True)
            case topics.NODES:
                heartbeats = self.verifier.verify(value, PayloadType.NODE_STATE, NodeState)
                if heartbeats.signatory.owner == heartbeats.record.node_id:
                    tx.put_node(heartbeats.record, payload=heartbeats.payload, verified=True, folded_at_ns=0)
            case _:
                seen = self.events.read(record)
                tx.put_event(seen, payload=self.codec.encode(seen))

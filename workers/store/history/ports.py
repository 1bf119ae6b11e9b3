"""The seam to the history store, which one projector writes and any number of gateways read.

Rows and offsets share one transaction, and moving an offset names where it was expected to be: a second projector
fails there instead of folding twice. Everything written is idempotent, so the log may be read again at any time. A
rebuild folds the log into a new store beside the live one and replaces it in one step.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep
from workers.domain.history.queries import (
    EventQuery,
    ExecutionQuery,
    Page,
    StoredAudit,
    StoredEvent,
    StoredNode,
    StoreHealth,
)
from workers.domain.history.rebuild import Carried, Reach
from workers.domain.history.retention import Cutoffs, Forgotten
from workers.domain.history.sequence import Ranges
from workers.domain.ids import EventId, ExecutionId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.trust.audit import AuditRecord


class HistoryTx(Protocol):
    """One transaction of the projector: rows and offsets together."""

    def advance(self, position: LogPosition, *, expected: int | None, next_offset: int) -> None:
        """Move the offset on if it still is ``expected`` (None: never read). Raises ``PermanentFailure``
        (``second_owner``) when another projector moved it."""

    def steps(self, execution_ids: Iterable[ExecutionId]) -> Mapping[ExecutionId, Sequence[FoldedStep]]:
        """The steps folded so far."""

    def put_steps(self, steps: Iterable[FoldedStep]) -> None:
        """Add steps, their ``payload`` and ``signed`` bytes with them. Idempotent."""

    def put_execution(self, execution: Execution) -> None:
        """Replace an execution's row by its fold."""

    def put_event(self, event: RuntimeEvent, *, payload: bytes) -> None:
        """``payload`` is the event encoded. Idempotent by (event id, content); of an id that arrives with two contents
        the first to arrive is shown."""

    def put_node(self, state: NodeState, *, payload: bytes, verified: bool, folded_at_ns: int) -> None:
        """``payload`` is the state encoded. Keep the newest of each incarnation, by record number."""

    def put_audit(self, record: AuditRecord, *, payload: bytes, signed: bytes, verified: bool) -> None:
        """Idempotent by (chain, number, content). ``signed`` is the envelope that ``payload`` came in."""

    def senders(self, names: Iterable[str]) -> Mapping[str, Ranges]:
        """The record numbers received of each sender; a sender without any is missing."""

    def put_sender(self, name: str, received: Ranges) -> None:
        """Replace the record numbers of a sender."""

    def record_digests(self, numbers: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], frozenset[str]]:
        """The digests of the steps that carry these record numbers, by (sender, number): more than one is a clone."""

    def put_unverified(self, position: LogPosition, offset: int, *, value: bytes, reason: str, at_ns: int) -> None:
        """Kept apart (the first 64 KiB), never folded. Idempotent."""

    def put_gap(self, position: LogPosition, *, expected: int, resumed_at: int, reason: str, at_ns: int) -> None:
        """A gap in what could be read. Idempotent."""

    def forgotten(self) -> Cutoffs:
        """How far retention has come."""

    def forget(self, cutoffs: Cutoffs, *, limit: int) -> Forgotten:
        """Move retention on (it never goes back) and forget at most ``limit`` rows of each kind that are older and
        that nothing refers to any more, as ``retention`` defines. Call again until nothing goes."""


class HistoryStore(Protocol):
    """The queryable store. Readers may run in other processes than the one writer."""

    def begin(self) -> AbstractContextManager[HistoryTx]:
        """Commits on leaving, rolls back on an exception. Raises ``TransientFailure`` when the database is
        unreachable."""

    def next_offset(self, position: LogPosition) -> int | None:
        """Where to read on."""

    def execution(self, execution_id: ExecutionId) -> Execution | None:
        """One, with its steps. This and every execution below comes with its undos (``with_undos``)."""

    def executions(self, query: ExecutionQuery) -> Page[Execution]:
        """Newest request first, without steps. Raises ``ValueError`` for a cursor that is none."""

    def contained(self) -> Sequence[Execution]:
        """Executions whose effect holds right now: not undone by a completed undo."""

    def event(self, event_id: EventId) -> StoredEvent | None:
        """One event."""

    def events(self, query: EventQuery) -> Page[StoredEvent]:
        """Newest first."""

    def nodes(self, node_id: str = "") -> Sequence[StoredNode]:
        """Every node that ever reported, by node id; or that one alone."""

    def audit(self, *, execution_id: str = "", chain_id: str = "", limit: int = 200) -> Sequence[StoredAudit]:
        """Audit records, newest first."""

    def health(self) -> StoreHealth:
        """How far it has come."""

    def digest(self) -> str:
        """SHA-256 over everything folded (``domain.history.search``), whatever the order: equal for equal histories.
        Offsets, gaps and what does not verify are no part of it."""

    def close(self) -> None:
        """Idempotent."""


class LiveHistory(Protocol):
    """The live store, of one moment, beside the one that is to replace it."""

    @property
    def positions(self) -> Mapping[LogPosition, int]:
        """Every log it ever read, and its next offset."""

    @property
    def forgotten(self) -> Cutoffs:
        """How far retention has come in it."""

    def digest(self) -> str:
        """As ``HistoryStore.digest``."""

    def copy_missing(self, reach: Reach) -> Carried:
        """Copy into the new store what only this one has, as far as it is older than the log reaches. Idempotent."""

    def copy_state(self, reach: Reach) -> None:
        """Let the new store continue where this one stands: offsets, the record numbers of each sender, how far
        retention has come, and unverified records that no log has any more. Idempotent."""

    def replace(self, *, keep: bool) -> str:
        """Let the new store replace this one in one step; only inside ``Rebuilding.held``, at its end. Where the
        old one was kept, if ``keep``."""


class Rebuilding(Protocol):
    """A store in the making beside the live one, of one rebuild at a time. Until ``replace`` the live one is as it was;
    a rebuild that was killed leaves the one or the other whole, and what else it left the next one removes."""

    @property
    def live(self) -> HistoryStore:
        """The live store."""

    @property
    def fresh(self) -> HistoryStore:
        """The store in the making; empty at first."""

    def frozen(self) -> AbstractContextManager[LiveHistory]:
        """The live store as it is now, whatever its projector goes on to write."""

    def held(self) -> AbstractContextManager[LiveHistory]:
        """The live store while no process can write to it. Raises ``TransientFailure`` when another writer holds it."""

    def close(self) -> None:
        """Remove what is not live. Idempotent."""

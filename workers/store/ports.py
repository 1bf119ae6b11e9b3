"""The durable memory of the two workers that must not forget: the node's journal and the dispatcher's ledger.

Both keep intake offsets, their own rows and the outbox in one file and one transaction: what was read, what was decided
and what is to be sent become durable together or not at all. A transaction commits with an fsync when its block ends
and rolls back when an exception leaves it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from workers.domain.ids import ExecutionId, Incarnation
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import LogPosition
from workers.log.ports import Outbox
from workers.wire.ports import RecordTx


class JournalTx(RecordTx, Protocol):
    """One journal transaction: all of it becomes durable, or none."""

    record_no: int
    """What ``next_record_no`` takes next. Raise it to skip numbers that were used outside the journal."""

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        """The entry, as this transaction sees it."""

    def put(self, entry: JournalEntry) -> None:
        """Insert or move on an entry. Raises ``ValueError`` when its state would go back."""

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Everything below ``next_offset`` is taken in. Never goes back."""

    def raise_floor(self, at_ns: int) -> None:
        """Time is at least ``at_ns`` from now on. Never goes back."""

    def reset_floor(self, at_ns: int) -> None:
        """Time is at least ``at_ns``, even where that is earlier than before. Only for an operator who says so."""


class Journal(Outbox, Protocol):
    """A node's durable memory. Every method may be called from any thread; ``begin`` is exclusive.

    ``acknowledge`` also moves OBSERVED entries whose records are all acknowledged to PUBLISHED.
    """

    @property
    def incarnation(self) -> Incarnation:
        """Created with the journal."""

    def begin(self) -> AbstractContextManager[JournalTx]:
        """A transaction: commits with an fsync on leaving, rolls back on an exception.

        Raises ``LimitExceeded`` (``journal_full``) or ``PermanentFailure`` (``journal_io``): stop claiming.
        """

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        """One entry."""

    def entries(self, *states: EntryState) -> Sequence[JournalEntry]:
        """All entries in these states, oldest first."""

    def next_offset(self, position: LogPosition) -> int | None:
        """The offset to read next, if this log was ever read."""

    def positions(self) -> Mapping[LogPosition, int]:
        """Every log ever read, and its next offset."""

    def floor_ns(self) -> int:
        """The lower bound of the present time."""

    def holding(self) -> Sequence[JournalEntry]:
        """Every entry that has ended and whose effect holds, oldest first."""

    def prune(self, *, ended_before_ns: int) -> int:
        """Forget PUBLISHED entries whose expiry lies before that, and whose effect does not hold: what is in place can
        be undone however long ago it was made. How many."""

    def close(self) -> None:
        """Idempotent."""


class LedgerTx(RecordTx, Protocol):
    """One ledger transaction. What its rows mean is defined in ``dispatcher.rows``."""

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Everything below ``next_offset`` is taken in."""

    def get(self, kind: str, key: str) -> bytes | None:
        """A row of a kind (``execution``, ``node``, ``host``, ``cooldown`` …)."""

    def put(self, kind: str, key: str, value: bytes, *, due_ns: int = 0) -> None:
        """Insert or replace; ``due_ns`` puts it on the timer list, 0 takes it off."""

    def delete(self, kind: str, key: str) -> None:
        """Idempotent."""

    def due(self, kind: str, now_ns: int, *, limit: int = 500) -> Sequence[tuple[str, bytes]]:
        """Rows whose time has come, earliest first."""

    def scan(self, kind: str, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        """Rows of a kind whose key begins so, in key order."""


class Ledger(Outbox, Protocol):
    """The dispatcher's durable memory: intake offsets, state and outbox in one transaction."""

    def begin(self) -> AbstractContextManager[LedgerTx]:
        """A transaction, as ``Journal.begin``."""

    def next_offset(self, position: LogPosition) -> int | None:
        """The offset to read next, if this log was ever read."""

    def verify(self) -> None:
        """Compare what is stored with what was written. Raises ``PermanentFailure`` (``journal_io``) if it differs."""

    def close(self) -> None:
        """Idempotent."""

"""A journal in memory that crashes faithfully: what was not committed is gone, what was committed is there again.

`reopened()` is the same file opened by the next process. `break_with()` makes every commit fail as a full or broken
disk does. Not safe against threads of its own: give it a lock where several threads share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from workers.domain.errors import WorkerError
from workers.domain.ids import ChainId, ExecutionId, Incarnation
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.trust.audit import ChainHead
from workers.log.ports import OutboxRow
from workers.store.ports import JournalTx

INCARNATION = Incarnation("01890000-0000-7000-8000-00000000000a")

_ORDER = tuple(EntryState)


@dataclass
class _Disk:
    """What is durable."""

    incarnation: Incarnation
    chain: ChainHead
    entries: dict[ExecutionId, JournalEntry] = field(default_factory=dict)
    answered_by: dict[ExecutionId, int] = field(default_factory=dict)
    """The outbox row up to which an OBSERVED entry's records reach."""
    rows: dict[int, OutRecord] = field(default_factory=dict)
    positions: dict[LogPosition, int] = field(default_factory=dict)
    last_row: int = 0
    record_no: int = 0
    floor_ns: int = 0


class _Tx:
    """One transaction: reads through to the disk, writes beside it."""

    def __init__(self, disk: _Disk) -> None:
        self._disk = disk
        self.entries: dict[ExecutionId, JournalEntry] = {}
        self.records: list[OutRecord] = []
        self.positions: dict[LogPosition, int] = {}
        self.chain = disk.chain
        self.record_no = disk.record_no
        self.floor_ns = disk.floor_ns

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        return self.entries.get(execution_id) or self._disk.entries.get(execution_id)

    def put(self, entry: JournalEntry) -> None:
        known = self.entry(entry.execution_id)
        if known is not None and _ORDER.index(entry.state) < _ORDER.index(known.state):
            raise ValueError(f"{entry.execution_id}: {known.state} never goes back to {entry.state}")
        if known is not None and known.command != entry.command:
            raise ValueError(f"{entry.execution_id} has another command in the journal already")
        self.entries[entry.execution_id] = entry

    def advance(self, position: LogPosition, next_offset: int) -> None:
        known = self.positions.get(position, self._disk.positions.get(position, 0))
        self.positions[position] = max(known, next_offset)

    def raise_floor(self, at_ns: int) -> None:
        self.floor_ns = max(self.floor_ns, at_ns)

    def publish(self, record: OutRecord) -> None:
        self.records.append(record)

    def next_record_no(self) -> int:
        self.record_no += 1
        return self.record_no - 1

    def chain_head(self) -> ChainHead:
        return self.chain

    def set_chain_head(self, head: ChainHead) -> None:
        if head.chain_id != self.chain.chain_id or head.next_no <= self.chain.next_no:
            raise ValueError(f"the chain cannot move from {self.chain} to {head}")
        self.chain = head


class FakeJournal:
    """The port `Journal`, in memory."""

    def __init__(
        self,
        incarnation: Incarnation = INCARNATION,
        *,
        node_id: str = "0" * 32,
        lock: AbstractContextManager[object] | None = None,
        disk: _Disk | None = None,
    ) -> None:
        chain = ChainHead(ChainId(f"node/{node_id}/{incarnation}"))
        self._disk = disk if disk is not None else _Disk(incarnation, chain)
        self._lock = lock if lock is not None else nullcontext()
        self._fault: WorkerError | None = None
        self.commits = 0

    def reopened(self) -> FakeJournal:
        """The same journal as the next process finds it."""
        return FakeJournal(lock=self._lock, disk=self._disk)

    def break_with(self, fault: WorkerError | None) -> None:
        """Every transaction from now on ends in this fault; None mends the disk."""
        self._fault = fault

    @property
    def incarnation(self) -> Incarnation:
        return self._disk.incarnation

    @contextmanager
    def begin(self) -> Iterator[JournalTx]:
        with self._lock:
            tx = _Tx(self._disk)
            yield tx
            if self._fault is not None:
                raise self._fault
            self._commit(tx)

    def _commit(self, tx: _Tx) -> None:
        disk = self._disk
        for record in tx.records:
            disk.last_row += 1
            disk.rows[disk.last_row] = record
        for execution_id, entry in tx.entries.items():
            disk.entries[execution_id] = entry
            if entry.state is EntryState.OBSERVED:
                disk.answered_by[execution_id] = disk.last_row
        disk.positions.update(tx.positions)
        disk.chain, disk.record_no, disk.floor_ns = tx.chain, tx.record_no, tx.floor_ns
        self.commits += 1

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        return self._disk.entries.get(execution_id)

    def entries(self, *states: EntryState) -> Sequence[JournalEntry]:
        found = [entry for entry in self._disk.entries.values() if entry.state in states]
        return sorted(found, key=lambda entry: entry.received_at_ns)

    def next_offset(self, position: LogPosition) -> int | None:
        return self._disk.positions.get(position)

    def positions(self) -> Mapping[LogPosition, int]:
        return dict(self._disk.positions)

    def floor_ns(self) -> int:
        return self._disk.floor_ns

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        rows = sorted(row_id for row_id in self._disk.rows if row_id > after)
        return [OutboxRow(row_id, self._disk.rows[row_id]) for row_id in rows[:limit]]

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        with self._lock:
            for row_id in row_ids:
                self._disk.rows.pop(row_id, None)
            oldest = min(self._disk.rows, default=self._disk.last_row + 1)
            for execution_id, row_id in list(self._disk.answered_by.items()):
                if row_id < oldest:
                    del self._disk.answered_by[execution_id]
                    entry = self._disk.entries[execution_id]
                    self._disk.entries[execution_id] = replace(entry, state=EntryState.PUBLISHED)

    def prune(self, *, ended_before_ns: int) -> int:
        old = [
            entry.execution_id
            for entry in self._disk.entries.values()
            if entry.state is EntryState.PUBLISHED and entry.expires_at_ns < ended_before_ns
        ]
        for execution_id in old:
            del self._disk.entries[execution_id]
        return len(old)

    def close(self) -> None:
        pass

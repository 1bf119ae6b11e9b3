"""A ledger in memory that crashes faithfully: what was not committed is gone, what was committed is there again.

`reopened()` is the same file opened by the next process. `break_with()` makes every commit fail as a full or broken
disk does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

from workers.domain.errors import WorkerError
from workers.domain.ids import ChainId
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.trust.audit import ChainHead
from workers.log.ports import OutboxRow

CHAIN = ChainId("dispatcher/01890000-0000-4000-8000-00000000000d")


@dataclass
class _Disk:
    """What is durable."""

    chain: ChainHead
    rows: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    outbox: dict[int, OutRecord] = field(default_factory=dict)
    positions: dict[LogPosition, int] = field(default_factory=dict)
    last_row: int = 0
    record_no: int = 0


class _Tx:
    """One transaction: works on a copy of everything, which becomes the disk when it commits."""

    def __init__(self, disk: _Disk) -> None:
        self.disk = disk

    def publish(self, record: OutRecord) -> None:
        self.disk.last_row += 1
        self.disk.outbox[self.disk.last_row] = record

    def next_record_no(self) -> int:
        self.disk.record_no += 1
        return self.disk.record_no - 1

    def chain_head(self) -> ChainHead:
        return self.disk.chain

    def set_chain_head(self, head: ChainHead) -> None:
        if head.chain_id != self.disk.chain.chain_id or head.next_no <= self.disk.chain.next_no:
            raise ValueError(f"the chain cannot move from {self.disk.chain} to {head}")
        self.disk.chain = head

    def advance(self, position: LogPosition, next_offset: int) -> None:
        self.disk.positions[position] = max(self.disk.positions.get(position, 0), next_offset)

    def get(self, kind: str, key: str) -> bytes | None:
        row = self.disk.rows.get((kind, key))
        return row[0] if row is not None else None

    def put(self, kind: str, key: str, value: bytes, *, due_ns: int = 0) -> None:
        self.disk.rows[kind, key] = (value, due_ns)

    def delete(self, kind: str, key: str) -> None:
        self.disk.rows.pop((kind, key), None)

    def due(self, kind: str, now_ns: int, *, limit: int = 500) -> Sequence[tuple[str, bytes]]:
        found = sorted(
            (due_ns, key, value)
            for (row_kind, key), (value, due_ns) in self.disk.rows.items()
            if row_kind == kind and 0 < due_ns <= now_ns
        )
        return [(key, value) for _, key, value in found[:limit]]

    def scan(self, kind: str, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        return sorted(
            (key, value)
            for (row_kind, key), (value, _) in self.disk.rows.items()
            if row_kind == kind and key.startswith(prefix)
        )


class FakeLedger:
    """The port `Ledger`, in memory."""

    def __init__(self, *, disk: _Disk | None = None) -> None:
        self._disk = disk if disk is not None else _Disk(ChainHead(CHAIN))
        self._lock = threading.Lock()
        self._fault: WorkerError | None = None
        self.commits = 0

    def reopened(self) -> FakeLedger:
        """The same ledger as the next process finds it."""
        return FakeLedger(disk=self._disk)

    def break_with(self, fault: WorkerError | None) -> None:
        """Every transaction from now on ends in this fault; None mends the disk."""
        self._fault = fault

    @contextmanager
    def begin(self) -> Iterator[_Tx]:
        with self._lock:
            tx = _Tx(deepcopy(self._disk))
            yield tx
            if self._fault is not None:
                raise self._fault
            vars(self._disk).update(vars(tx.disk))
            self.commits += 1

    def next_offset(self, position: LogPosition) -> int | None:
        return self._disk.positions.get(position)

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        with self._lock:
            rows = sorted(row_id for row_id in self._disk.outbox if row_id > after)
            return [OutboxRow(row_id, self._disk.outbox[row_id]) for row_id in rows[:limit]]

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        with self._lock:
            for row_id in row_ids:
                self._disk.outbox.pop(row_id, None)

    def close(self) -> None:
        pass

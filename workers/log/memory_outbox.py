"""An outbox and an audit chain in memory, for workers that keep nothing: responder, gateway, projector.

Made by ``wiring``, one a start (the chain's id holds the instance, so a new start is a new chain); its relay empties
it. Every method may be called from any thread. What it holds is lost with the process; nothing in it may be a promise.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.domain.trust.audit import ChainHead
from workers.log.ports import OutboxRow
from workers.wire.ports import RecordTx

_MOST: Final = 100_000
"""Rows; at a kilobyte each a hundred megabytes, more than a log that is only briefly unreachable leaves."""


class MemoryOutbox:
    """``RecordTx`` and ``Outbox`` in one; ``begin`` makes several calls one transaction."""

    def __init__(self, chain_id: ChainId, *, most: int = _MOST) -> None:
        self._lock = RLock()
        self._head = ChainHead(chain_id)
        self._record_no = 0
        self._rows: dict[int, OutboxRow] = {}
        self._last = 0
        self._most = most

    @contextmanager
    def begin(self) -> Iterator[RecordTx]:
        with self._lock:
            head, record_no, last = self._head, self._record_no, self._last
            try:
                yield self
            except BaseException:
                for row_id in range(last + 1, self._last + 1):
                    self._rows.pop(row_id, None)
                self._head, self._record_no, self._last = head, record_no, last
                raise

    def publish(self, record: OutRecord) -> None:
        """Raises ``TransientFailure`` (``outbox_full``) when the log has been unreachable for long."""
        with self._lock:
            if len(self._rows) >= self._most:
                raise TransientFailure(f"{self._most} records wait for the log", code="outbox_full")
            self._last += 1
            self._rows[self._last] = OutboxRow(self._last, record)

    def next_record_no(self) -> int:
        with self._lock:
            taken = self._record_no
            self._record_no += 1
            return taken

    def chain_head(self) -> ChainHead:
        return self._head

    def set_chain_head(self, head: ChainHead) -> None:
        with self._lock:
            self._head = head

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        with self._lock:
            found: list[OutboxRow] = []
            for row_id, row in self._rows.items():
                if len(found) >= limit:
                    break
                if row_id > after:
                    found.append(row)
            return found

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        with self._lock:
            for row_id in row_ids:
                self._rows.pop(row_id, None)

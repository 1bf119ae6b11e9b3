"""An outbox and an audit chain in memory, one transaction at a time: for tests of workers that keep nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock

from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.domain.trust.audit import ChainHead
from workers.log.ports import OutboxRow


class FakeOutbox:
    """`Chained` and `Outbox`."""

    def __init__(self, chain_id: str = "gateway/test") -> None:
        self.published: list[OutRecord] = []
        """Everything ever published, in order."""
        self._head = ChainHead(ChainId(chain_id))
        self._done: set[int] = set()
        self._record_no = 0
        self._lock = RLock()

    @contextmanager
    def begin(self) -> Iterator[FakeOutbox]:
        with self._lock:
            yield self

    def publish(self, record: OutRecord) -> None:
        self.published.append(record)

    def next_record_no(self) -> int:
        self._record_no += 1
        return self._record_no - 1

    def chain_head(self) -> ChainHead:
        return self._head

    def set_chain_head(self, head: ChainHead) -> None:
        self._head = head

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        waiting = [OutboxRow(number, record) for number, record in enumerate(self.published, 1)]
        return [row for row in waiting if row.row_id > after and row.row_id not in self._done][:limit]

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        self._done.update(row_ids)

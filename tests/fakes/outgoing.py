"""An in-memory outbox with its chain, and a relay that empties it: the ports `Outgoing` and `Relay` without a broker's
worries. Whether the real ones keep their promises is the business of their own tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tests.fakes.chained import FakeChained
from workers.domain.errors import TransientFailure
from workers.domain.log.record import OutRecord
from workers.log.ports import LogWriter, OutboxRow
from workers.wire.ports import Chained


class FakeOutgoing(FakeChained):
    """Holds at most `most` rows; `published` keeps everything that ever became a row."""

    def __init__(self, chain_id: str = "test/1", *, most: int = 100_000) -> None:
        super().__init__(chain_id)
        self.most = most
        self._rows: dict[int, OutRecord] = {}
        self._last = 0

    @contextmanager
    def begin(self) -> Iterator[Chained]:
        kept = self.published[:], dict(self._rows), self._last, self._head, self._record_no
        try:
            yield self
        except BaseException:
            self.published, self._rows, self._last, self._head, self._record_no = kept
            raise

    def publish(self, record: OutRecord) -> None:
        if len(self._rows) >= self.most:
            raise TransientFailure("too many records wait for the log", code="outbox_full")
        super().publish(record)
        self._last += 1
        self._rows[self._last] = record

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        return [OutboxRow(row, record) for row, record in self._rows.items() if row > after][:limit]

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        for row in row_ids:
            self._rows.pop(row, None)


class FakeRelay:
    """Sends everything again that is not acknowledged: more duplicates than the real one ever makes."""

    def __init__(self, outgoing: FakeOutgoing, writer: LogWriter) -> None:
        self._outgoing = outgoing
        self._writer = writer

    def step(self, timeout_s: float = 0.0) -> int:
        self._writer.acks()
        for row in self._outgoing.outbox():
            self._writer.send(row.record, token=row.row_id)
        acknowledged = [ack.token for ack in self._writer.acks(timeout_s) if ack.ok]
        before = len(self._outgoing.outbox(limit=1_000_000))
        self._outgoing.acknowledge(acknowledged)
        return before - len(self._outgoing.outbox(limit=1_000_000))

    def drain(self, timeout_s: float) -> int:
        while self.step(timeout_s):
            pass
        return len(self._outgoing.outbox(limit=1_000_000))

"""The real outbox in memory, which also keeps everything that was ever published, and a relay that repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import LogWriter, Outbox
from workers.wire.ports import RecordTx


class RecordedOutbox(MemoryOutbox):
    """`published` has every record that ever became a row, in order, acknowledged or not."""

    def __init__(self, chain_id: str = "test/1", *, most: int = 100_000) -> None:
        super().__init__(ChainId(chain_id), most=most)
        self.published: list[OutRecord] = []

    @contextmanager
    def begin(self) -> Iterator[RecordTx]:
        before = len(self.published)
        with super().begin():
            try:
                yield self
            except BaseException:
                del self.published[before:]
                raise

    def publish(self, record: OutRecord) -> None:
        super().publish(record)
        self.published.append(record)

    def on(self, topic: str) -> list[OutRecord]:
        """What was published to one topic."""
        return [record for record in self.published if record.topic == topic]


class RepeatingRelay:
    """The port `Relay`; sends everything again that is not acknowledged: more duplicates than the real one makes."""

    def __init__(self, outbox: Outbox, writer: LogWriter) -> None:
        self._outbox = outbox
        self._writer = writer

    def step(self, timeout_s: float = 0.0) -> int:
        self._writer.acks()
        for row in self._outbox.outbox():
            self._writer.send(row.record, token=row.row_id)
        acknowledged = [ack.token for ack in self._writer.acks(timeout_s) if ack.ok]
        before = self._waiting()
        self._outbox.acknowledge(acknowledged)
        return before - self._waiting()

    def drain(self, timeout_s: float) -> int:
        while self.step(timeout_s):
            pass
        return self._waiting()

    def _waiting(self) -> int:
        return len(self._outbox.outbox(limit=1_000_000))

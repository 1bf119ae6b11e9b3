"""A transaction's side for signed, chained records, in memory: what was published, in order."""

from __future__ import annotations

from workers.domain.ids import ChainId
from workers.domain.log.record import OutRecord
from workers.domain.trust.audit import ChainHead


class FakeChained:
    """Keeps everything; never rolls back."""

    def __init__(self, chain_id: str = "test/1") -> None:
        self.published: list[OutRecord] = []
        self._head = ChainHead(ChainId(chain_id))
        self._record_no = 0

    def publish(self, record: OutRecord) -> None:
        self.published.append(record)

    def next_record_no(self) -> int:
        self._record_no += 1
        return self._record_no - 1

    def chain_head(self) -> ChainHead:
        return self._head

    def set_chain_head(self, head: ChainHead) -> None:
        self._head = head

    def on(self, topic: str) -> list[OutRecord]:
        """What was published to one topic."""
        return [record for record in self.published if record.topic == topic]

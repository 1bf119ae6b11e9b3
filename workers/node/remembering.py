"""A journal transaction that remembers what was written through it: the newest bytes, and how far the numbers went.

Made by the register, one a commit; passes everything on to the journal. Needed because a duplicate is answered with the
very same bytes, and because a heartbeat must have a number of its own even while the journal cannot count.
"""

from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import JournalEntry
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.trust.audit import ChainHead
from workers.store.ports import JournalTx


class Remembering:
    """The port ``JournalTx``."""

    def __init__(self, tx: JournalTx, *, spent_to: int) -> None:
        """Numbers below ``spent_to`` were used outside the journal and are skipped: two records of one number would
        look like a cloned node."""
        self._tx = tx
        self._spent_to = spent_to
        self.value = b""
        """Of the record published last."""
        self.numbered_to = 0
        """The next number, once this transaction has taken one."""

    def publish(self, record: OutRecord) -> None:
        """Pass it on, and remember its bytes."""
        self.value = record.value or b""
        self._tx.publish(record)

    def next_record_no(self) -> int:
        """The next number that nobody used."""
        number = self._tx.next_record_no()
        while number < self._spent_to:
            number = self._tx.next_record_no()
        self.numbered_to = number + 1
        return number

    def chain_head(self) -> ChainHead:
        """Pass it on."""
        return self._tx.chain_head()

    def set_chain_head(self, head: ChainHead) -> None:
        """Pass it on."""
        self._tx.set_chain_head(head)

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        """Pass it on."""
        return self._tx.entry(execution_id)

    def put(self, entry: JournalEntry) -> None:
        """Pass it on."""
        self._tx.put(entry)

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Pass it on."""
        self._tx.advance(position, next_offset)

    def raise_floor(self, at_ns: int) -> None:
        """Pass it on."""
        self._tx.raise_floor(at_ns)

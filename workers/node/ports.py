"""The seam inside the node: an unprivileged feed that knows Kafka, and an executor that owns journal, keys and gate."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from workers.domain.log.record import Delivery, LogPosition, Start, TopicPartition
from workers.log.ports import OutboxRow


class Executor(Protocol):
    """The seam between the feed (Kafka, unprivileged) and the executor (journal, keyset, gate, effects): bytes in,
    bytes out. The two may become two processes; nothing but these calls passes between them."""

    def places(self) -> Sequence[TopicPartition]:
        """What to read now: this node's partition of the newest generation of its command topic first, then of older
        ones, then ``fleet.topology``. Does not block."""

    def starts(self, partitions: Sequence[LogPosition]) -> Mapping[LogPosition, Start]:
        """Where to begin reading each of them. Raises as ``take``."""

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take in what was read: durable on return. Taking the same again is safe. Raises ``LimitExceeded`` or
        ``PermanentFailure`` when the journal cannot hold it: nothing was taken, read no further."""

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        """As ``Outbox.outbox``."""

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """As ``Outbox.acknowledge``."""

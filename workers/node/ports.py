"""The seam inside the node: an unprivileged feed that knows Kafka, and an executor that owns journal, keys and gate.

It carries bytes only, so that the two can become two processes without a rewrite. Nothing that comes through it is
believed before its signature is verified.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from workers.domain.log.record import Delivery, LogPosition, Start, TopicPartition
from workers.log.ports import OutboxRow


class Executor(Protocol):
    """The privileged half; called by the feed (bytes in) and by the relay (bytes out)."""

    def partitions(self) -> Sequence[TopicPartition]:
        """What to read now: this node's partition of the newest generation of its command topic first, then of older
        ones, then ``fleet.topology``. Does not block."""

    def starts(self, positions: Sequence[LogPosition]) -> Mapping[LogPosition, Start]:
        """Where to begin reading each of them. Raises as ``take``."""

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take in what was read: durable on return. Taking the same again is safe. Raises ``LimitExceeded`` or
        ``PermanentFailure`` when the journal cannot hold it: nothing was taken, read no further."""

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        """As ``Outbox.outbox``."""

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """As ``Outbox.acknowledge``."""

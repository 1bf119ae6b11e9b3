"""The seam to Kafka: bytes in, bytes out; what they mean is not known here.

**Offsets.** A position is (log id, topic, partition): a topic that was deleted and recreated is another log, and an
old offset means nothing in it. A reader that owns durable state keeps its offsets there and uses ``LogReader``, which
commits nothing; one that owns none joins a group and uses ``GroupReader``. What can no longer be read arrives as a
``Gap`` among the records, never as a silent jump.

**Sending.** At least once, in order. A record is sent once it is durable in an ``Outbox``; ``Relay`` sends it and
deletes it only when Kafka has acknowledged it, so a crash sends it again, byte for byte.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from workers.domain.log.record import Delivery, LogPosition, OutRecord, Start
from workers.wire.ports import RecordTx


class LogReader(Protocol):
    """Reads the partitions it is assigned; offsets belong to the caller, nothing is committed."""

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        """The topic's partitions and its log id. Blocks up to 10 s. Raises ``TransientFailure``."""

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        """Read exactly these from now on. Blocks briefly. Raises ``TransientFailure``."""

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """What arrived, in offset order per partition; waits up to ``timeout_s`` for the first. A ``Gap`` is
        what can no longer be read. Raises ``TransientFailure`` when no broker can be reached; call again."""

    def close(self) -> None:
        """Idempotent."""


class GroupReader(Protocol):
    """Reads as one of a consumer group; the group keeps the offsets."""

    def subscribe(self, topics: Sequence[str], *, fresh: Start) -> None:
        """Join; ``fresh`` is where a partition without a committed offset starts."""

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """As ``LogReader.poll``. Raises ``PermanentFailure`` (``member_fenced``) when another process keeps joining
        under this member's own name."""

    def commit(self) -> None:
        """Everything polled so far is done with. Blocks. Raises ``TransientFailure``; calling again is safe."""

    def close(self) -> None:
        """Leave the group. Idempotent."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of one sent record: acknowledged by the log, or not (it may still be there).

    ``error`` is ``oversize`` or ``invalid_record`` where the log will never take it; anything else may pass.
    """

    token: int
    error: str = ""
    position: LogPosition | None = None
    offset: int = -1

    @property
    def ok(self) -> bool:
        """Whether the log has it."""
        return not self.error


class LogWriter(Protocol):
    """Appends records: idempotent producer, ``acks=all``, no transactions."""

    def send(self, record: OutRecord, *, token: int) -> None:
        """Queue it; its ``Ack`` with ``token`` comes out of ``acks``. Does not block.

        Raises ``TransientFailure`` when the local queue is full, ``MalformedMessage`` (``oversize``) when it can
        never be sent.
        """

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        """Acknowledgements and failures since the last call; waits up to ``timeout_s`` for the first."""

    def flush(self, timeout_s: float) -> int:
        """Wait until everything queued has its ack; how many have none yet."""

    def close(self) -> None:
        """Idempotent. Does not wait: flush first."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record waiting for Kafka's acknowledgement."""

    row_id: int
    record: OutRecord


class Outbox(Protocol):
    """Records that are durable here before they travel."""

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        """Waiting records with ``row_id`` above ``after``, in order."""

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """Kafka has them. Idempotent."""


class Outgoing(Outbox, Protocol):
    """An outbox and an audit chain in memory, for workers that keep nothing: lost with the process."""

    def begin(self) -> "AbstractContextManager[RecordTx]":
        """All of what happens inside, or nothing of it when an exception leaves.

        Raises ``TransientFailure`` (``outbox_full``) when the log has been unreachable for long."""


class Relay(Protocol):
    """Moves an outbox to the log: at least once, in order, and deletes only what was acknowledged."""

    def step(self, timeout_s: float = 0.0) -> int:
        """Send what waits, take in what was acknowledged; how many rows moved. Waits up to ``timeout_s``, and only
        while something is under way: with an empty outbox it returns at once, so that a loop can sleep for itself."""

    def drain(self, timeout_s: float) -> int:
        """Step until the outbox is empty or the time is over; how many rows are left."""

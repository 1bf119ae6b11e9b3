"""The feed: reads the partitions that the executor wants and passes on the bytes. The first module on the way of a
command.

Stepped by the loop; calls the log reader and the executor. It filters, verifies and decides nothing, so that it can run
as a process without any privilege. Offsets belong to the executor: what was read and not taken in is read again. Which
partitions the executor wants may change at any time; a missing one is done without, and looked for again. Next:
``executor``.
"""

from collections.abc import Sequence
from typing import Final

from workers.domain.errors import LimitExceeded, PermanentFailure, TransientFailure
from workers.domain.log.record import LogPosition, TopicPartition
from workers.log.ports import LogReader
from workers.node.ports import Executor
from workers.system.ports import Clock, Telemetry

LIMIT: Final = 2_000
"""Records to a poll: what is genuine among them goes first, so one poll reaches as far as the client's own queue."""

LOOK_AGAIN_NS: Final = 1_000_000_000
"""Until the newest command topic is looked for again when it is not there yet."""

LOOK_AGAIN_RARELY_NS: Final = 300_000_000_000
"""The same for any other: a command topic of old may be gone for good, and every node of a fleet would ask."""


class Feed:
    """What one node reads."""

    def __init__(self, reader: LogReader, executor: Executor, telemetry: Telemetry, clock: Clock) -> None:
        """``executor`` decides what to read, and from where."""
        self._reader = reader
        self._executor = executor
        self._telemetry = telemetry
        self._clock = clock
        self._wanted: Sequence[TopicPartition] = ()
        self._assigned: Sequence[LogPosition] = ()
        self._look_again_ns: int | None = None

    def step(self, timeout_s: float) -> None:
        """Read what is there, waiting up to ``timeout_s`` for it.

        Raises:
            TransientFailure: the broker is unavailable; call again.
            LimitExceeded, PermanentFailure: the executor cannot take what was read; the next step reads it again.
        """
        self._assign()
        deliveries = self._reader.poll(timeout_s, limit=LIMIT)
        if not deliveries:
            return
        try:
            self._executor.take(deliveries)
        except (LimitExceeded, PermanentFailure):
            self._assigned = ()  # read again from what is durable
            raise

    def close(self) -> None:
        """Idempotent."""
        self._reader.close()

    def _assign(self) -> None:
        wanted, now_ns = self._executor.partitions(), self._clock.monotonic_ns()
        due = self._look_again_ns is not None and now_ns >= self._look_again_ns
        if self._assigned and wanted == self._wanted and not due:
            return
        found = [position for partition in wanted for position in self._positions(partition)]
        missing = [each for each in wanted if each not in {(at.topic, at.partition) for at in found}]
        if len(missing) == len(wanted):
            raise TransientFailure(_absent(wanted[0]), code="unknown_topic")
        if found != self._assigned:
            self._reader.assign(self._executor.starts(found))
            for position in found:
                self._telemetry.log(
                    "assigned", topic=position.topic, partition=position.partition, log_id=position.log_id
                )
        if missing and wanted != self._wanted:
            self._telemetry.log("not_there", level="warning", message="; ".join(map(_absent, missing)))
        pause_ns = LOOK_AGAIN_NS if wanted[0] in missing else LOOK_AGAIN_RARELY_NS
        self._look_again_ns = now_ns + pause_ns if missing else None
        self._wanted, self._assigned = wanted, found

    def _positions(self, partition: TopicPartition) -> Sequence[LogPosition]:
        topic, number = partition
        try:
            return [position for position in self._reader.partitions(topic) if position.partition == number]
        except TransientFailure as error:
            if error.reason != "unknown_topic":
                raise
            return ()


def _absent(partition: TopicPartition) -> str:
    topic, number = partition
    return f"there is no partition {number} of {topic}; check node.command_partitions, and `douse topics diff`"

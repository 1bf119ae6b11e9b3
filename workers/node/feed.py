"""The feed: Kafka's side of the node. Reads one partition and hands over what it read; knows nothing of commands.

Stepped by the loop; calls the log reader and the executor. It filters, verifies and decides nothing, so that it can run
as a process without any privilege. Offsets are the executor's: whatever was read and not taken in is read again.
"""

from typing import Final

from workers.core.errors import LimitExceeded, PermanentFailure, TransientFailure
from workers.core.record import LogPosition
from workers.core.retry import backoff_s
from workers.ports import Executor, LogReader, Telemetry

LIMIT: Final = 2_000
"""Records to a poll: what is genuine among them goes first, so a sitting reaches as far as the client's own queue."""


class Feed:
    """One node's partition of its zone's command topic."""

    def __init__(
        self, reader: LogReader, executor: Executor, telemetry: Telemetry, *, topic: str, partition: int
    ) -> None:
        """``partition`` is the one that ``core.routing`` gives this node."""
        self._reader = reader
        self._executor = executor
        self._telemetry = telemetry
        self._topic = topic
        self._partition = partition
        self._assigned = False
        self._failures = 0

    def step(self, timeout_s: float) -> float:
        """Read what is there, waiting up to ``timeout_s`` for it; seconds to wait before the next step."""
        try:
            if not self._assigned:
                self._assign()
            deliveries = self._reader.poll(timeout_s, limit=LIMIT)
        except TransientFailure as error:
            return self._failed("broker_away", error)
        except (LimitExceeded, PermanentFailure) as error:
            return self._failed("executor_refuses", error)
        try:
            if deliveries:
                self._executor.take(deliveries)
        except (LimitExceeded, PermanentFailure) as error:
            self._assigned = False  # read again from what is durable
            return self._failed("executor_refuses", error)
        self._failures = 0
        return 0.0

    def close(self) -> None:
        """Idempotent."""
        self._reader.close()

    def _assign(self) -> None:
        found = [position for position in self._reader.partitions(self._topic) if position.partition == self._partition]
        if not found:
            raise TransientFailure(f"{self._topic} has no partition {self._partition}; check node.command_partitions")
        self._reader.assign(self._executor.starts(found))
        self._assigned = True
        self._say("assigned", found[0])

    def _say(self, event: str, position: LogPosition) -> None:
        self._telemetry.log(event, topic=position.topic, partition=position.partition, log_id=position.log_id)

    def _failed(self, event: str, error: TransientFailure | LimitExceeded | PermanentFailure) -> float:
        self._failures += 1
        if self._failures == 1:
            self._telemetry.log(event, level="warning", reason=error.reason, message=error.message)
        return backoff_s(self._failures)

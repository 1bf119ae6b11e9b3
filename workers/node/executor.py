"""The executor: the privileged half of the node, behind one narrow port that carries bytes.

Called by ``feed`` (bytes in) and the relay (bytes out); calls intake, journal and lanes. Feed and executor may become
two processes, the feed without privileges: nothing but these five calls passes between them, and nothing that comes
through them is believed before its signature is verified. Next: ``intake``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from workers.domain.log import topics
from workers.domain.log.record import Delivery, Earliest, LogPosition, Offset, Record, Since, Start, TopicPartition
from workers.domain.outcome import Scalar
from workers.log.ports import OutboxRow
from workers.node.generations import Generations
from workers.node.intake import Intake
from workers.node.lanes import Lanes
from workers.node.services import Services
from workers.node.transitions import Transitions

RETENTION_NS: Final = 24 * 3600 * 1_000_000_000
"""The command topic's retention: the longest that a command can have waited for a node that never ran before."""

TOPOLOGY: Final[TopicPartition] = (topics.TOPOLOGY, 0)
"""Its one partition."""


class Executor:
    """Implements ``ports.Executor``."""

    def __init__(
        self, services: Services, intake: Intake, transitions: Transitions, lanes: Lanes, generations: Generations
    ) -> None:
        self._services = services
        self._intake = intake
        self._transitions = transitions
        self._lanes = lanes
        self._generations = generations

    def partitions(self) -> Sequence[TopicPartition]:
        """Every generation that may still hold a command, and the topic that announces new ones."""
        return (*self._generations.partitions(), TOPOLOGY)

    def starts(self, positions: Sequence[LogPosition]) -> Mapping[LogPosition, Start]:
        """From the journal; for a log or a generation never read, from its beginning, and audited; on a node's first
        day, from the oldest command that could still matter."""
        return {position: self._start(position) for position in positions}

    def take(self, deliveries: Sequence[Delivery]) -> None:
        topologies, commands = list[Record](), list[Delivery]()
        for delivery in deliveries:
            if isinstance(delivery, Record) and delivery.position.topic == topics.TOPOLOGY:
                topologies.append(delivery)
            else:
                commands.append(delivery)
        for tasks in self._intake.step(commands):
            self._lanes.push(tasks)
        for record in topologies:  # after the commands: no growth is as urgent as a kill
            self._generations.take(record)

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        return self._services.journal.outbox(after=after, limit=limit)

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        self._services.failpoints.reach("node.acknowledge.before")
        self._services.journal.acknowledge(row_ids)

    def _start(self, position: LogPosition) -> Start:
        if position.topic == topics.TOPOLOGY:
            return Earliest()
        next_offset = self._services.journal.next_offset(position)
        if next_offset is not None:
            return Offset(next_offset)
        known = {other.topic for other in self._services.journal.positions()}
        if not any(map(self._generations.of, known)):
            return Since(self._services.time.now_ns() - RETENTION_NS)
        kind = "new_log" if position.topic in known else "new_generation"
        detail: dict[str, Scalar] = {
            "topic": position.topic,
            "partition": position.partition,
            "log_id": position.log_id,
        }
        with self._transitions.commit() as tx:
            self._services.recorder.audit(tx, kind, at_ns=self._services.time.now_ns(), detail=detail)
            tx.advance(position, 0)
        self._services.telemetry.log(kind, level="warning", **detail)
        return Earliest()

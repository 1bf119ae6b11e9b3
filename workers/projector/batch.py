"""What one poll brought, sorted by kind: everything that one transaction will write.

Called by ``projector``; calls ``record_reader``. Pure but for what it is handed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from workers.domain.log.record import Delivery, Gap, LogPosition
from workers.projector.record_reader import (
    AuditItem,
    EventItem,
    HeartbeatItem,
    RecordReader,
    StepItem,
    Suspect,
)


@dataclass(slots=True)
class Batch:
    """The items of one poll, and where reading goes on after them."""

    next_offsets: dict[LogPosition, int] = field(default_factory=dict)
    steps: list[StepItem] = field(default_factory=list)
    audit: list[AuditItem] = field(default_factory=list)
    heartbeats: list[HeartbeatItem] = field(default_factory=list)
    events: list[EventItem] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    size: int = 0

    def record_numbers(self) -> Mapping[str, set[int]]:
        """The numbers of the signed records in it, by sender."""
        numbers: dict[str, set[int]] = defaultdict(set)
        for step in self.steps:
            numbers[step.sender].add(step.step.result.record_no)
        for heartbeat in self.heartbeats:
            numbers[heartbeat.sender].add(heartbeat.state.record_no)
        return numbers


def gather(deliveries: Iterable[Delivery], reading: RecordReader) -> Batch:
    """Sort what was delivered. Raises ``TransientFailure`` as ``RecordReader.item``."""
    batch = Batch()
    for delivery in deliveries:
        batch.size += 1
        if isinstance(delivery, Gap):
            batch.gaps.append(delivery)
            batch.next_offsets[delivery.position] = delivery.resumed_at
            continue
        batch.next_offsets[delivery.position] = delivery.offset + 1
        item = reading.item(delivery)
        match item:
            case StepItem():
                batch.steps.append(item)
            case AuditItem():
                batch.audit.append(item)
            case HeartbeatItem():
                batch.heartbeats.append(item)
            case EventItem():
                batch.events.append(item)
            case Suspect():
                batch.suspects.append(item)
            case _:
                assert_never(item)
    return batch

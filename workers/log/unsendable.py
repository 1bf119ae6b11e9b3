"""What is said of a record that the log will never take, so that its loss is no secret: one audit record.

Made by ``wiring`` for a relay, which says it in the log, calls this, and then acknowledges the record. Must never
answer itself: what the audit topic refuses, and would refuse again, is said in that log line only.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.log import topics
from workers.domain.outcome import Values
from workers.log.ports import OutboxRow
from workers.system.ports import Telemetry
from workers.wire.ports import Chained, Recorder

LONGEST_SAYING: Final = 2_048
"""Bytes: three times what an audit record about a record has. A topic that refuses less as too large would refuse the
saying too."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A relay's ``refused``."""

    begin: Callable[[], AbstractContextManager[Chained]]
    """One transaction of the outbox that the relay empties."""
    recorder: Recorder
    now_ns: Callable[[], int]
    telemetry: Telemetry

    def __call__(self, row: OutboxRow, reason: str) -> None:
        """Say it. An outbox in memory that is full cannot keep that: then the log line says so.

        Raises:
            LimitExceeded, PermanentFailure: a durable outbox cannot write; the relay calls again.
        """
        record = row.record
        size = len(record.value or b"")
        if record.topic == topics.AUDIT and (reason != "oversize" or size <= LONGEST_SAYING):
            return
        detail: Values = {"topic": record.topic, "reason": reason, "size": size}
        try:
            with self.begin() as tx:
                self.recorder.audit(tx, "unsendable", at_ns=self.now_ns(), detail=detail)
        except TransientFailure as error:
            self.telemetry.log("unsendable_unsaid", level="error", topic=record.topic, error=error.reason)

"""Writes one audit record about a record that the log will never take, so that its loss does not stay hidden.

Made by ``wiring`` for a relay, which logs the refusal, calls this, and then acknowledges the record. Must never react
to its own records: what the audit topic refuses, and would refuse again, stands in that log line only.
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
from workers.wire.ports import Recorder, RecordTx

LONGEST_NOTICE: Final = 2_048
"""Bytes: three times the size of an audit record about a record. A topic that refuses less as too large would refuse
the notice too."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A relay's ``refused``."""

    begin: Callable[[], AbstractContextManager[RecordTx]]
    """One transaction of the outbox that the relay empties."""
    recorder: Recorder
    now_ns: Callable[[], int]
    telemetry: Telemetry

    def __call__(self, row: OutboxRow, reason: str) -> None:
        """Write the audit record. An outbox in memory that is full cannot take it: then only a log line remains.

        Raises:
            LimitExceeded, PermanentFailure: a durable outbox cannot write; the relay calls again.
        """
        record = row.record
        size = len(record.value or b"")
        if record.topic == topics.AUDIT and (reason != "oversize" or size <= LONGEST_NOTICE):
            return
        detail: Values = {"topic": record.topic, "reason": reason, "size": size}
        try:
            with self.begin() as tx:
                self.recorder.audit(tx, "unsendable", at_ns=self.now_ns(), detail=detail)
        except TransientFailure as error:
            self.telemetry.log("unsendable_unsaid", level="error", topic=record.topic, error=error.reason)

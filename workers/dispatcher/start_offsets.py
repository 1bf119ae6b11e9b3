"""Where the dispatcher begins to read each partition: the ledger's own offset first, then what the log itself allows.

Called by ``dispatcher`` before every assignment. An offset belongs to one log and is never applied to another.
"""

from collections.abc import Mapping
from typing import Final

from workers.dispatcher.transaction import Transaction
from workers.domain.log import topics
from workers.domain.log.record import Earliest, LogPosition, Offset, Since, Start
from workers.domain.outcome import Values

_STATE: Final = (topics.NODES, topics.TOPOLOGY)
"""Topics that hold the present state, not events; they are read whole."""


def start_offsets(tx: Transaction, next_offsets: Mapping[LogPosition, int | None]) -> Mapping[LogPosition, Start]:
    """From the ledger where it knows the log. Topics of state, and a log that replaced another, are read whole; others
    no further back than the longest time to live of a command: what is older could only expire."""
    longest_s = max((action.ttl_s for action in tx.services.actions.values()), default=0)
    starts: dict[LogPosition, Start] = {}
    for position, next_offset in next_offsets.items():
        before = tx.rows.log_of(position.topic, position.partition)
        if before and before != position.log_id:
            _report_new_log(tx, position, before)
        if before != position.log_id:
            tx.rows.put_log(position)
        if next_offset is not None:
            starts[position] = Offset(next_offset)
        elif before not in ("", position.log_id) or position.topic in _STATE:
            starts[position] = Earliest()
        else:
            starts[position] = Since(tx.now_ns - longest_s * 1_000_000_000)
    return starts


def _report_new_log(tx: Transaction, position: LogPosition, before: str) -> None:
    detail: Values = {
        "topic": position.topic,
        "partition": position.partition,
        "before": before,
        "log_id": position.log_id,
    }
    tx.services.telemetry.log("new_log", level="warning", **detail)
    tx.services.recorder.audit(tx.ledger, "new_log", at_ns=tx.now_ns, detail=detail)

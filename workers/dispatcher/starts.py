"""Where the dispatcher begins to read each partition: its own ledger first, then what the log itself allows.

Called by ``dispatcher`` before every assignment. Offsets belong to a log: one of another log is never applied.
"""

from collections.abc import Mapping
from typing import Final

from workers.dispatcher.services import Turn
from workers.domain.log import topics
from workers.domain.log.record import Earliest, LogPosition, Offset, Since, Start

_STATE: Final = (topics.NODES, topics.TOPOLOGY)
"""Topics that hold how things are, not what happens."""


def choose(turn: Turn, next_offsets: Mapping[LogPosition, int | None]) -> Mapping[LogPosition, Start]:
    """From the ledger where it knows the log. What says how things are, and a log that replaced another, is read whole;
    else no further back than the longest life of a command: what is older could only expire."""
    longest_s = max((action.ttl_s for action in turn.services.actions.values()), default=0)
    starts: dict[LogPosition, Start] = {}
    for position, next_offset in next_offsets.items():
        before = turn.rows.log_of(position.topic, position.partition)
        if before and before != position.log_id:
            _say(turn, position, before)
        if before != position.log_id:
            turn.rows.put_log(position)
        if next_offset is not None:
            starts[position] = Offset(next_offset)
        elif before not in ("", position.log_id) or position.topic in _STATE:
            starts[position] = Earliest()
        else:
            starts[position] = Since(turn.now_ns - longest_s * 1_000_000_000)
    return starts


def _say(turn: Turn, position: LogPosition, before: str) -> None:
    place: dict[str, str | int] = {"topic": position.topic, "partition": position.partition}
    turn.services.telemetry.log("new_log", level="warning", **place, log_id=position.log_id)
    detail = {**place, "before": before, "log_id": position.log_id}
    turn.services.recorder.audit(turn.tx, "new_log", at_ns=turn.now_ns, detail=detail)

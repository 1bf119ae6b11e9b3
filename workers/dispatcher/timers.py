"""What happens because time passed: held requests expire, silent nodes raise an alarm, timed undos begin, rows go.

Called by ``dispatcher`` about once a second. Sends commands again that a lost log took with it. Never ends an
execution that is with its node."""

from dataclasses import replace
from typing import Final

from workers.dispatcher import intake, release, signing
from workers.dispatcher.rows import ExecutionRow
from workers.dispatcher.services import Turn
from workers.domain.outcome import Outcome, Stage

LIMIT: Final = 200
"""Rows a tick, so that a long list never keeps requests waiting."""


def tick(turn: Turn) -> int:
    """Do what is due; how many rows were looked at. Call again at once when it is ``LIMIT`` or more."""
    due = turn.rows.due(turn.now_ns, limit=LIMIT)
    for row in due:
        _ring(turn, row)
    undos = turn.rows.undos(turn.now_ns, limit=LIMIT)
    for execution_id in undos:
        intake.undo_on_time(turn, execution_id)
    turn.rows.forget_cooldowns(turn.now_ns)
    return max(len(due), len(undos))


def send_again(turn: Turn) -> int:
    """Queue the exact bytes of every open command whose log is gone; how many. Nodes take each id in once only."""
    again = 0
    for execution_id, sent in turn.rows.sent():
        row = turn.rows.execution(execution_id)
        bound = turn.services.tails.bound(sent.topic, sent.partition)
        if row is None or bound is None or row.expires_at_ns <= turn.now_ns:
            continue
        if row.log_id and row.log_id != bound[0].log_id:
            signing.queue(turn, sent)
            # Copies in two logs: no one offset can prove any more that none was taken in.
            due_ns = row.silence_due_ns(turn.services.silent_after_s)
            turn.rows.put_execution(replace(row, log_id=""), due_ns=due_ns)
            turn.audit("sent_again", row, actor="", detail={"log_id": bound[0].log_id})
            again += 1
    return again


def _ring(turn: Turn, row: ExecutionRow) -> None:
    match row.stage:
        case Stage.HELD:
            message = "nobody agreed in time"
            release.settle(turn, turn.ended(row, Outcome.EXPIRED, "expired", message))
        case Stage.DISPATCHED | Stage.CLAIMED:
            message = f"node {row.node_id} was not heard about this long after it had to be over"
            turn.alarm(row, "node_silent", message)
        case Stage.ENDED:
            turn.rows.forget(row)
        case Stage.REQUESTED:  # waits for the step before it, which has a timer of its own
            turn.rows.put_execution(row)

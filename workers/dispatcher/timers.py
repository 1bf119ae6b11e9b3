"""What happens because time passed: held requests expire, silent nodes raise an alarm, timed undos begin, rows go.

Called by ``dispatcher`` about once a second. Also sends commands again that were in a log that is lost. Never ends an
execution that is with its node.
"""

from dataclasses import replace
from typing import Final

from workers.dispatcher import release, signing, undo
from workers.dispatcher.rows import NO_INCARNATION, ExecutionRow
from workers.dispatcher.transaction import Transaction
from workers.domain.ids import NodeId
from workers.domain.outcome import Outcome, Stage, Values
from workers.domain.trust.authority import NODE_LEFT

LIMIT: Final = 200
"""Rows for one tick, so that a long list does not delay requests."""

CLOCK_SUSPECT: Final = "clock_suspect"
"""The alarm that most nodes disagree with this machine's clock."""


def tick(tx: Transaction) -> int:
    """Do what is due; how many rows were looked at. Call again at once when it is ``LIMIT`` or more. While
    this machine's clock is suspect nothing is due: what is late can still be done, what was early is done."""
    if tx.clocks.suspect:
        detail: Values = {"nodes_ahead_by_s": tx.clocks.offset_ns() // signing.SECOND_NS}
        tx.fleet_alarm(CLOCK_SUSPECT, "", detail)
        return 0
    for node_id, at_ns in tx.services.left_nodes().items():
        if at_ns <= tx.now_ns:
            _has_left(tx, node_id)
    due = tx.rows.due(tx.now_ns, limit=LIMIT)
    for row in due:
        _is_due(tx, row)
    undos = tx.rows.take_undos(tx.now_ns, limit=LIMIT)
    for execution_id in undos:
        undo.undo_on_time(tx, execution_id)
    tx.rows.forget_cooldowns(tx.now_ns)
    return max(len(due), len(undos))


def _has_left(tx: Transaction, node_id: NodeId) -> None:
    """End what a node had still to do, and free its host names. What it signed before may still arrive, and counts."""
    message = f"node {node_id} has left the fleet, and its reports count no more; whether this took effect is unknown"
    for row in tx.rows.open_at(node_id, NO_INCARNATION, expired_ns=0):
        release.release_next(tx, tx.ended(row, Outcome.UNKNOWN, NODE_LEFT, message))
    known = tx.rows.node(node_id)
    if known is not None and known.host_names:
        tx.rows.put_node(replace(known, host_names=(), disputed=()))
        tx.fleet_alarm(NODE_LEFT, node_id, {"node_id": node_id})


def send_again(tx: Transaction) -> int:
    """Queue the exact bytes of every open command whose log is gone; how many. A node takes each id in once only."""
    again = 0
    for execution_id, sent in tx.rows.sent():
        row = tx.rows.execution(execution_id)
        tail = tx.services.tails.of(sent.topic, sent.partition)
        if row is None or tail is None or row.expires_at_ns <= tx.now_ns:
            continue
        if row.log_id and row.log_id != tail.position.log_id:
            signing.queue(tx, sent)
            # Copies in two logs: no single offset can prove any more that none was taken in.
            due_ns = row.silence_due_ns(tx.services.silent_after_s)
            tx.rows.put_execution(replace(row, log_id=""), due_ns=due_ns)
            tx.audit("sent_again", row, actor="", detail={"log_id": tail.position.log_id})
            again += 1
    return again


def _is_due(tx: Transaction, row: ExecutionRow) -> None:
    match row.stage:
        case Stage.HELD:
            message = "it was not approved in time"
            release.release_next(tx, tx.ended(row, Outcome.EXPIRED, "expired", message))
        case Stage.DISPATCHED | Stage.CLAIMED:
            message = f"node {row.node_id} has reported nothing, though this must have ended by now"
            tx.alarm(row, "node_silent", message)
        case Stage.ENDED:
            tx.rows.forget(row)
        case Stage.REQUESTED:  # waits for the step before it, which has a timer of its own
            tx.rows.put_execution(row)

"""Follows what nodes say: their results end executions, their heartbeats fill the directory and prove two things.

Called by ``dispatcher`` for every record of ``response.results`` and ``fleet.nodes``. Believes only a node's own
pinned key. From outside, an execution ends here in two ways only: UNKNOWN ``node_state_lost`` and EXPIRED
``undelivered``. What can be proven neither way is asked of its node again, and ends there (``is_unanswered``)."""

from dataclasses import replace
from typing import Final

from workers.dispatcher import hosts, release, signing
from workers.dispatcher.rows import ExecutionRow
from workers.dispatcher.services import KEEP_NS, Turn
from workers.domain.ids import NodeId
from workers.domain.log.record import Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import EFFECT_LOST, ActionResult
from workers.domain.trust.envelope import PayloadType

PROOF_MARGIN_NS: Final = 5_000_000_000
"""A heartbeat proves non-delivery only from this long after the expiry: its time and its offsets are not read at one
instant, and a command taken in between the two must not count as undelivered."""

ASK_EVERY_NS: Final = 60_000_000_000
ASK_MOST: Final = 3
"""A copy can be lost as the first one was; what stays silent after three is for the alarm ``node_silent``."""

ASK_AT_ONCE: Final = 16
"""Commands asked about for one heartbeat: 5 ms of a node's time, so that a node with a long queue is not kept busy with
what it has in hand anyway."""

RECENT_NS: Final = 120_000_000_000
"""How old a heartbeat may be that makes us ask, twice the clock error that is granted: a dispatcher that was away reads
old heartbeats before the results that lie beside them."""


def result(turn: Turn, record: Record) -> None:
    """One record of ``response.results``.

    Raises:
        MalformedMessage: it does not verify; whoever shows history keeps such records, here they mean nothing.
    """
    if record.value is None or turn.services.tails.is_own(record.value):
        return
    opened = turn.services.verifier.verify(record.value, PayloadType.RESULT, ActionResult)
    said = opened.record
    if said.producer != "node" or not opened.signatory.is_node(said.node_id):
        return
    row = turn.rows.execution(said.execution_id)
    if row is None or row.node_id != said.node_id:
        turn.services.telemetry.count("dispatcher.foreign_results")
        return
    if said.alarm == EFFECT_LOST and row.settled and row.effect_holds:
        turn.rows.put_execution(replace(row, effect_holds=False), due_ns=turn.now_ns + KEEP_NS)
    if row.settled:
        return
    if said.stage is Stage.CLAIMED and row.stage is Stage.DISPATCHED:
        turn.rows.put_execution(
            replace(row, stage=Stage.CLAIMED), due_ns=row.silence_due_ns(turn.services.silent_after_s)
        )
    elif said.stage is Stage.ENDED and said.outcome is not None:
        _ended(turn, row, said, said.outcome)


def heartbeat(turn: Turn, record: Record) -> None:
    """One record of ``fleet.nodes``.

    Raises:
        MalformedMessage: it does not verify.
    """
    if record.value is None:
        turn.rows.forget_node(NodeId((record.key or b"").decode("ascii", "replace")))
        return
    opened = turn.services.verifier.verify(record.value, PayloadType.NODE_STATE, NodeState)
    state = opened.record
    if not hosts.is_its_own(state, opened.signatory):
        turn.services.telemetry.log("heartbeat_of_another", level="warning", node_id=state.node_id)
        return
    known = turn.rows.node(state.node_id)
    if not hosts.is_newer(state, known):
        return
    hosts.learn(turn.rows, state)
    left = ASK_AT_ONCE if turn.now_ns - state.at_ns < RECENT_NS else 0
    for row in turn.rows.open_at(state.node_id, state.incarnation, expired_ns=state.at_ns - PROOF_MARGIN_NS):
        if row.incarnation != state.incarnation:
            _lost(turn, row)
        elif _is_there_still(turn, row) and is_undelivered(row, state):
            message = f"expired, and node {state.node_id} signed afterwards that it never took the command in"
            release.settle(turn, turn.ended(row, Outcome.EXPIRED, "undelivered", message))
        elif left and is_unanswered(row, state):
            _ask(turn, row)
            left -= 1


def is_undelivered(row: ExecutionRow, state: NodeState) -> bool:
    """Whether a heartbeat proves that a node never took a command in, and never will: it is over, and every copy of it
    lies at or behind the next offset that the node would read."""
    if row.stage is not Stage.DISPATCHED or not row.log_id or state.at_ns < row.expires_at_ns + PROOF_MARGIN_NS:
        return False
    return any(
        (place.log_id, place.topic, place.partition) == (row.log_id, row.topic, row.partition)
        and place.next_offset <= row.at_least
        for place in state.positions
    )


def is_unanswered(row: ExecutionRow, state: NodeState) -> bool:
    """Whether to send a command's exact bytes once more: by its node's own signed time it is over, and the node has
    said nothing final of it.

    A heartbeat cannot tell why. The log may have dropped the record before the node read it (then the next offset is
    behind it and the journal has no row), the node may have refused bytes it could not verify then, or its answer was
    lost. So nothing is concluded here: the node is asked, and asking is safe, because the node settles each case:

    * its journal has the row: a duplicate, never run again; it repeats the answer it gave, or gives it when it has one;
    * it has no row: it never ran the command. It takes it in now, after its expiry, and says EXPIRED. (Where its clock
      was turned back in between, it judges by that clock, as it would have judged the first copy: still once.)
    * it has forgotten the row (``admission.MEMORY_NS`` after the expiry): a dead letter, which is no answer, and the
      alarm stands.
    """
    if row.asked >= ASK_MOST or row.outcome or row.stage not in (Stage.DISPATCHED, Stage.CLAIMED):
        return False
    return state.at_ns >= row.expires_at_ns + PROOF_MARGIN_NS + row.asked * ASK_EVERY_NS


def _ask(turn: Turn, row: ExecutionRow) -> None:
    sent = turn.rows.sent_to(row.execution_id)
    if sent is None:
        return
    signing.queue(turn, sent)
    # The copy lies behind the bound of its own log; with copies in two logs no one offset proves anything any more.
    log_id = row.log_id if _is_there_still(turn, row) else ""
    asked = replace(row, asked=row.asked + 1, log_id=log_id)
    turn.rows.put_execution(asked, due_ns=row.silence_due_ns(turn.services.silent_after_s))
    turn.audit("asked_again", row, actor="", detail={"node_id": row.node_id, "times": asked.asked})


def _is_there_still(turn: Turn, row: ExecutionRow) -> bool:
    """Whether the log its command went to is still the one being written: offsets of another prove nothing."""
    bound = turn.services.tails.bound(row.topic, row.partition)
    return bound is not None and bound[0].log_id == row.log_id


def _ended(turn: Turn, row: ExecutionRow, said: ActionResult, outcome: Outcome) -> None:
    if not outcome.is_final:
        unknown = replace(row, stage=Stage.CLAIMED, outcome=outcome.value)
        turn.rows.put_execution(unknown, due_ns=row.silence_due_ns(turn.services.silent_after_s))
        return
    after = replace(row, stage=Stage.ENDED, outcome=outcome.value, effect_holds=said.effect_holds)
    # What still holds must stay undoable however long ago it was done.
    turn.rows.put_execution(after, due_ns=0 if said.effect_holds else turn.now_ns + KEEP_NS)
    _lifted(turn, after)
    release.settle(turn, after)


def _lifted(turn: Turn, row: ExecutionRow) -> None:
    """An undo that succeeded: what it undid holds no more, and may be forgotten in time."""
    subject = turn.rows.execution(row.undo_of) if row.undo_of else None
    if subject is not None and row.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION):
        turn.rows.put_execution(replace(subject, effect_holds=False), due_ns=turn.now_ns + KEEP_NS)


def _lost(turn: Turn, row: ExecutionRow) -> None:
    message = f"node {row.node_id} came back without the journal that knew this command; what it did is not known"
    release.settle(turn, turn.ended(row, Outcome.UNKNOWN, "node_state_lost", message))

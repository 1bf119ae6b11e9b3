"""Undoes an execution: a command of its own for the same node, carrying only the id of what it undoes.

Called by ``intake`` (somebody asks) and ``timers`` (its time is over). Everything else an undo needs is in the node's
own journal; nothing from the bus is believed about it.
"""

from dataclasses import replace

from workers.dispatcher import release
from workers.dispatcher.rows import ExecutionRow, NodeRow
from workers.dispatcher.services import Turn
from workers.domain.errors import CommandRejected
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.outcome import Outcome
from workers.domain.request import ActionRequest, Step, Verb

_LIFTABLE = (Outcome.COMPLETED.value, Outcome.PARTIAL.value)


def reverse_of(turn: Turn, subject: ExecutionId) -> str:
    """The action that undoes ``subject``; the subject's own where there is none, so that a refusal can be named."""
    row = turn.rows.execution(subject)
    if row is None:
        return ""
    action = turn.services.actions.get(row.action)
    return (action.reversible_by if action is not None else None) or row.action


def begin(turn: Turn, row: ExecutionRow, request: ActionRequest) -> None:
    """Dispatch the undo ``row`` asks for, or end it saying why not."""
    try:
        subject = _subject(turn, row)
        node = _node(turn, subject)
        action = turn.services.actions[row.action]
        action.parse(request.steps[0].parameters)
        release.fresh(turn, row, request, action)
        release.go(turn, row, request, node)
        turn.rows.put_execution(replace(subject, undone_by=row.execution_id))
    except CommandRejected as refusal:
        release.refused(turn, row, refusal)


def on_time(turn: Turn, subject_id: ExecutionId) -> tuple[ExecutionRow, ActionRequest] | None:
    """The row and request of an undo whose time has come; None when there is nothing left to undo."""
    subject = turn.rows.execution(subject_id)
    if subject is None or subject.undone_by:
        return None
    asked = turn.rows.request(subject.request_id)
    execution_id = id_from_cause(turn.now_ns, subject_id, "undo_after")
    request = ActionRequest(
        verb=Verb.UNDO,
        requested_at_ns=turn.now_ns,
        actor=asked.actor,
        host=subject.node_id,
        steps=(Step(execution_id, reverse_of(turn, subject_id), None),),
        reason=f"undone by itself after {asked.undo_after_s} s",
        subject=subject_id,
        caller_id=asked.caller_id,
        causation=asked.causation,
    )
    row = ExecutionRow(execution_id, execution_id, 0, request.steps[0].action, undo_of=subject_id, trace=subject.trace)
    return row, request


def _subject(turn: Turn, row: ExecutionRow) -> ExecutionRow:
    subject = turn.rows.execution(row.undo_of)
    if subject is None:
        raise CommandRejected(f"there is no execution {row.undo_of} to undo", code="unknown_execution")
    action = turn.services.actions.get(subject.action)
    if action is None or action.reversible_by is None or subject.undo_of:
        raise CommandRejected(f"{subject.action} cannot be undone", code="not_reversible")
    if not subject.settled:
        raise CommandRejected(f"{subject.execution_id} has not ended yet; cancel it, or wait", code="not_ended")
    if subject.outcome not in _LIFTABLE or not subject.effect_holds:
        raise CommandRejected(
            f"{subject.execution_id} ended {subject.outcome}: nothing to undo", code="nothing_to_undo"
        )
    before = turn.rows.execution(subject.undone_by) if subject.undone_by else None
    if before is not None and not before.settled:
        raise CommandRejected(f"{before.execution_id} is undoing it already", code="undo_in_progress")
    if before is not None and before.outcome in release.SUCCESSES:
        raise CommandRejected(f"{before.execution_id} has undone it already", code="already_undone")
    return subject


def _node(turn: Turn, subject: ExecutionRow) -> NodeRow:
    node = turn.rows.node(subject.node_id)
    if node is None or node.incarnation != subject.incarnation:
        raise CommandRejected(
            f"node {subject.node_id} lost the journal that knows what was done", code="node_state_lost"
        )
    return node

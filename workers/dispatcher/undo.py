"""Undoes an execution: a command of its own for the same node, carrying only the id of what it undoes.

Called by ``intake`` (requested) and ``timers`` (its time is over). Everything else that an undo needs is in the node's
own journal; nothing from the log is believed about it. Next: ``release``, ``signing``.
"""

from dataclasses import replace

from workers.dispatcher import release
from workers.dispatcher.rows import ExecutionRow, NodeRow
from workers.dispatcher.transaction import Transaction
from workers.domain.errors import CommandRejected
from workers.domain.history.execution import UNDOABLE
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome
from workers.domain.request import ActionRequest, Step, Verb


def take(tx: Transaction, request: ActionRequest, value: bytes, trace: Headers) -> None:
    """A request for an undo; ``value`` is its bytes."""
    step = request.steps[0]
    action = _reverse_of(tx, request.subject) or step.action
    row = ExecutionRow(step.execution_id, step.execution_id, 0, action, undo_of=request.subject, trace=trace)
    if tx.accept([row], request, value):
        _begin(tx, row, request)


def undo_on_time(tx: Transaction, subject_id: ExecutionId) -> None:
    """The time of ``undo_after_s`` is over: undo the execution as if it had been requested."""
    subject = tx.rows.execution(subject_id)
    if subject is None or subject.undone_by:
        return
    origin = tx.rows.request(subject.request_id)
    execution_id = id_from_cause(tx.now_ns, subject_id, "undo_after")
    request = ActionRequest(
        verb=Verb.UNDO,
        requested_at_ns=tx.now_ns,
        actor=origin.actor,
        host=subject.node_id,
        steps=(Step(execution_id, _reverse_of(tx, subject_id), None),),
        reason=f"undone automatically after {origin.undo_after_s} s",
        subject=subject_id,
        caller_id=origin.caller_id,
        causation=origin.causation,
    )
    row = ExecutionRow(execution_id, execution_id, 0, request.steps[0].action, undo_of=subject_id, trace=subject.trace)
    if tx.accept([row], request):
        _begin(tx, row, request)


def _reverse_of(tx: Transaction, subject: ExecutionId) -> str:
    """The action that undoes ``subject``; the subject's own where there is none, so that a refusal can be named."""
    row = tx.rows.execution(subject)
    if row is None:
        return ""
    action = tx.services.actions.get(row.action)
    return (action.reversible_by if action is not None else None) or row.action


def _begin(tx: Transaction, row: ExecutionRow, request: ActionRequest) -> None:
    """Dispatch the undo, or end it with the reason why not."""
    try:
        subject = _subject(tx, row)
        node = _node(tx, subject)
        action = tx.services.actions[row.action]
        action.parse(request.steps[0].parameters)
        release.check_expiry(tx, row, request, action)
        release.dispatch_or_hold(tx, row, request, node)
        tx.rows.put_execution(replace(subject, undone_by=row.execution_id))
    except CommandRejected as refusal:
        release.end_refused(tx, row, refusal)


def _subject(tx: Transaction, row: ExecutionRow) -> ExecutionRow:
    subject = tx.rows.execution(row.undo_of)
    if subject is None:
        raise CommandRejected(f"there is no execution {row.undo_of} to undo", code="unknown_execution")
    action = tx.services.actions.get(subject.action)
    if action is None or action.reversible_by is None or subject.undo_of:
        raise CommandRejected(f"{subject.action} cannot be undone", code="not_reversible")
    if not subject.has_final_outcome:
        raise CommandRejected(f"{subject.execution_id} has not ended yet; cancel it, or wait", code="not_ended")
    before = tx.rows.execution(subject.undone_by) if subject.undone_by else None
    if before is not None and not before.has_final_outcome:
        raise CommandRejected(f"{before.execution_id} is undoing it already", code="undo_in_progress")
    if before is not None and before.outcome == Outcome.COMPLETED:
        raise CommandRejected(f"{before.execution_id} has undone it already", code="already_undone")
    lost = subject.outcome in UNDOABLE
    if not lost or not subject.effect_holds:
        why = ", and its effect is no longer in place: nothing to undo" if lost else ": nothing to undo"
        raise CommandRejected(f"{subject.execution_id} ended {subject.outcome}{why}", code="nothing_to_undo")
    return subject


def _node(tx: Transaction, subject: ExecutionRow) -> NodeRow:
    release.check_member(tx, subject.node_id)
    node = tx.rows.node(subject.node_id)
    if node is None or node.incarnation != subject.incarnation:
        message = f"node {subject.node_id} lost the journal that knows what was done"
        raise CommandRejected(message, code="node_state_lost")
    return node

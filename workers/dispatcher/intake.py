"""Takes in requests: from people and from rules, each on a topic of its own.

Called by ``dispatcher`` for every record of the request topics. Verifies, decodes, checks who signed and the form,
drops what was taken in before, keeps the request whole, writes REQUESTED for every step, and releases the first. A
record that is no request, or not signed by the role that its topic belongs to, becomes a dead letter. Taking the same
record again changes nothing. Next: ``release``, ``undo``.

What is kept are the request's exact bytes without their envelope: REQUESTED carries them on under the dispatcher's own
signature, and the envelope stays in its topic for 7 days.
"""

from workers.dispatcher import release, undo
from workers.dispatcher.rows import ExecutionRow
from workers.dispatcher.transaction import Transaction
from workers.domain.log.record import Headers, Record
from workers.domain.outcome import Outcome, Stage
from workers.domain.request import ActionRequest, Verb
from workers.domain.request_bounds import NotARequest, check, check_age, check_size
from workers.domain.trust.authority import REQUESTERS, request_objection
from workers.domain.trust.envelope import PayloadType


def take(tx: Transaction, record: Record, trace: Headers) -> None:
    """One record of a request topic.

    Raises:
        MalformedMessage: it does not verify, or cannot be decoded.
        NotARequest: it can, and is no valid request.
    """
    signed, topic = record.value or b"", record.position.topic
    check_size(signed)
    opened = tx.services.verifier.verify(signed, PayloadType.REQUEST, ActionRequest)
    if objection := request_objection(topic, opened.signatory):
        signer = f"the {opened.signatory.role} key of {opened.signatory.owner}"
        raise NotARequest(objection, f"signed by {signer}; on {topic} a {REQUESTERS[topic]} must sign")
    request, value = opened.record, opened.payload
    check(request, topic)
    check_age(request, tx.now_ns)
    tx.services.telemetry.count("dispatcher.requests", labels={"verb": request.verb.value})
    match request.verb:
        case Verb.EXECUTE:
            _execute(tx, request, value, trace)
        case Verb.UNDO:
            undo.take(tx, request, value, trace)
        case Verb.CANCEL:
            _cancel(tx, request)
        case Verb.APPROVE | Verb.DENY:
            _decide(tx, request)


def _execute(tx: Transaction, request: ActionRequest, value: bytes, trace: Headers) -> None:
    request_id, last = request.steps[0].execution_id, len(request.steps) - 1
    rows = [
        ExecutionRow(
            step.execution_id,
            request_id,
            number,
            step.action,
            follows=number < last or request.undo_after_s > 0,
            trace=trace,
        )
        for number, step in enumerate(request.steps)
    ]
    if tx.accept(rows, request, value):
        release.release(tx, rows[0], request)


def _cancel(tx: Transaction, request: ActionRequest) -> None:
    """Until its command is signed an execution can be canceled here. Afterwards only its node could cancel it, and
    nodes do not take cancels."""
    row = _subject(tx, request)
    if row.stage in (Stage.REQUESTED, Stage.HELD):
        message = f"canceled by {request.actor.name}" + (f": {request.reason}" if request.reason else "")
        release.release_next(tx, tx.ended(row, Outcome.CANCELED, "canceled", message))
    elif row.stage is not Stage.ENDED:
        raise NotARequest("cancel_too_late", f"{row.execution_id} is with its node already, and runs or expires there")
    elif row.outcome != Outcome.CANCELED:
        raise NotARequest("cancel_too_late", f"{row.execution_id} has ended {row.outcome} already")


def _decide(tx: Transaction, request: ActionRequest) -> None:
    """Approve or deny what is held."""
    row = _subject(tx, request)
    if row.stage is not Stage.HELD:
        raise NotARequest("not_held", f"{row.execution_id} does not wait for approval")
    if request.verb is Verb.DENY:
        message = f"denied by {request.actor.name}" + (f": {request.reason}" if request.reason else "")
        release.release_next(tx, tx.ended(row, Outcome.REJECTED, "denied", message))
        return
    raise NotARequest("approvals_not_built", "this version holds nothing that an approval could release")


def _subject(tx: Transaction, request: ActionRequest) -> ExecutionRow:
    row = tx.rows.execution(request.subject)
    if row is None:
        raise NotARequest("unknown_execution", f"this dispatcher knows no execution {request.subject}")
    return row

"""Takes in requests: from people and from rules, each on a topic of its own.

Called by ``dispatcher`` for every record of the request topics. Decodes, checks the form, drops what was taken in
before, keeps the request whole, says REQUESTED for every step, and releases the first. A record that is no request
becomes a dead letter. Taking the same record again changes nothing."""

from workers.dispatcher import release, undo
from workers.dispatcher.rows import ExecutionRow
from workers.dispatcher.services import Turn
from workers.dispatcher.validation import NotARequest, check, check_size
from workers.domain.ids import ExecutionId
from workers.domain.log.record import Headers, Record
from workers.domain.outcome import Outcome, Stage
from workers.domain.request import ActionRequest, Verb


def take(turn: Turn, record: Record, trace: Headers) -> None:
    """One record of a request topic.

    Raises:
        MalformedMessage: not decodable.
        NotARequest: decodable, and still none.
    """
    value = record.value or b""
    check_size(value)
    request = turn.services.codec.decode(value, ActionRequest)
    check(request, record.position.topic)
    turn.services.telemetry.count("dispatcher.requests", labels={"verb": request.verb.value})
    match request.verb:
        case Verb.EXECUTE:
            _execute(turn, request, value, trace)
        case Verb.UNDO:
            _undo(turn, request, value, trace)
        case Verb.CANCEL:
            _cancel(turn, request)
        case Verb.APPROVE | Verb.DENY:
            _judge(turn, request)


def _execute(turn: Turn, request: ActionRequest, value: bytes, trace: Headers) -> None:
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
    if _begun(turn, rows, request, value):
        release.release(turn, rows[0], request)


def _undo(turn: Turn, request: ActionRequest, value: bytes, trace: Headers) -> None:
    step = request.steps[0]
    action = undo.reverse_of(turn, request.subject) or step.action
    row = ExecutionRow(step.execution_id, step.execution_id, 0, action, undo_of=request.subject, trace=trace)
    if _begun(turn, [row], request, value):
        undo.begin(turn, row, request)


def undo_on_time(turn: Turn, subject: ExecutionId) -> None:
    """An execution's time is over: undo it as if somebody had asked."""
    due = undo.on_time(turn, subject)
    if due is not None and _begun(turn, [due[0]], due[1]):
        undo.begin(turn, *due)


def _begun(turn: Turn, rows: list[ExecutionRow], request: ActionRequest, value: bytes = b"") -> bool:
    """Keep and announce all steps; False when they are here already."""
    known = [found for row in rows if (found := turn.rows.execution(row.execution_id)) is not None]
    if known:
        if len(known) == len(rows) and all(found.request_id == rows[0].request_id for found in known):
            turn.services.telemetry.count("dispatcher.duplicates")
            return False
        raise NotARequest("id_taken", f"execution id {known[0].execution_id} belongs to another request")
    turn.rows.put_request(rows[0].request_id, request, value=value)
    for row in rows:
        turn.rows.put_execution(row)
        turn.requested(row, request)
    return True


def _cancel(turn: Turn, request: ActionRequest) -> None:
    """Before its command is signed an execution can be canceled here; afterwards only its node could, and does not
    take cancels yet."""
    row = _subject(turn, request)
    if row.stage in (Stage.REQUESTED, Stage.HELD):
        message = f"canceled by {request.actor.name}" + (f": {request.reason}" if request.reason else "")
        release.settle(turn, turn.ended(row, Outcome.CANCELED, "canceled", message))
    elif row.stage is not Stage.ENDED:
        raise NotARequest("cancel_too_late", f"{row.execution_id} is with its node already, and runs or expires there")
    elif row.outcome != Outcome.CANCELED:
        raise NotARequest("cancel_too_late", f"{row.execution_id} has ended {row.outcome} already")


def _judge(turn: Turn, request: ActionRequest) -> None:
    row = _subject(turn, request)
    if row.stage is not Stage.HELD:
        raise NotARequest("not_held", f"{row.execution_id} does not wait for anybody's approval")
    if request.verb is Verb.DENY:
        message = f"denied by {request.actor.name}" + (f": {request.reason}" if request.reason else "")
        release.settle(turn, turn.ended(row, Outcome.REJECTED, "denied", message))
        return
    raise NotARequest("approvals_not_built", "this version holds nothing that an approval could release")


def _subject(turn: Turn, request: ActionRequest) -> ExecutionRow:
    row = turn.rows.execution(request.subject)
    if row is None:
        raise NotARequest("unknown_execution", f"no execution {request.subject} was ever asked for here")
    return row

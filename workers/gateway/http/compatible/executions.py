"""``/action-executions``: request an action, list, read, undo, download.

Routes of the compatible API. Next: ``submissions`` and ``gateway.intake`` for what is written, ``show`` for what is
read.
"""

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Body, Header, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from workers.domain.history.execution import Execution
from workers.domain.history.queries import ExecutionQuery
from workers.gateway.http import acquired_file
from workers.gateway.http.compatible import filters, show, vocabulary
from workers.gateway.http.compatible.bodies import (
    ERRORS,
    ERRORS_OF_ONE,
    ActionExecution,
    ActionExecutions,
    SubmitActionExecution,
    SubmitUndo,
)
from workers.gateway.http.compatible.submissions import submission_of, translated
from workers.gateway.http.security import Caller, ReadableActions
from workers.gateway.http.services import GatewayServices, Services, Trace
from workers.gateway.intake import WrittenRequest
from workers.gateway.refusals import Invalid
from workers.gateway.requests import expected_execution

Id: TypeAlias = Annotated[str, Path(max_length=vocabulary.LONGEST_ID, description="An execution id.")]
CallerId: TypeAlias = Annotated[
    str,
    Query(alias="callerId", max_length=vocabulary.LONGEST_ID, description="Only executions with this correlation id."),
]
Filter: TypeAlias = Annotated[
    str,
    Query(
        max_length=1024,
        description='Terms such as status = "FAILED" and host.id = "web-1"; names: actionType, status, callerId, '
        "host.id, container.id, actionExecutionIdBeingUndone.",
    ),
]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=200, description="Executions of one page.")]
Offset: TypeAlias = Annotated[int, Query(ge=0, lt=1 << 31, description="How many of the newest to leave out.")]
Moment: TypeAlias = Annotated[int, Query(ge=0, lt=1 << 63, description="Nanoseconds since the epoch; 0 for no bound.")]
IdempotencyKey: TypeAlias = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="For at least a day, a second request under the same key is the same execution.",
    ),
]

router = APIRouter(prefix="/action-executions")


@router.post("", status_code=201, summary="Request an action", response_model_exclude_none=True, responses=ERRORS)
async def submit(
    services: Services, person: Caller, parent: Trace, body: SubmitActionExecution, key: IdempotencyKey = ""
) -> ActionExecution:
    """Answered once the log has the request; the action runs asynchronously. Actions that only run as an undo are
    refused: use DELETE. Needs containment-response-actions.exec or data-gathering-response-actions.exec, by the class
    of the action."""
    submission = submission_of(body, services.intake.catalogue)
    written = await services.write(
        lambda: translated(lambda: services.intake.execute(submission, person=person, key=key, parent=parent))
    )
    return await _answer(services, written)


@router.get("", summary="List executions, newest first", response_model_exclude_none=True, responses=ERRORS)
def list_executions(
    services: Services,
    actions: ReadableActions,
    caller_id: CallerId = "",
    filter_: Annotated[Filter, Query(alias="filter")] = "",
    limit: Limit = 25,
    offset: Offset = 0,
    from_: Annotated[Moment, Query(alias="from")] = 0,
    to: Moment = 0,
) -> ActionExecutions:
    """Only what this caller may read: containment-response-actions.read, data-gathering-response-actions.read or
    both. ``from`` is inclusive, ``to`` exclusive."""
    if to and from_ >= to:
        raise Invalid("from must be before to", field="from")
    query = ExecutionQuery(caller_id=caller_id, actions=actions, from_ns=from_, to_ns=to, limit=limit, offset=offset)
    narrowed = filters.narrowed(query, filter_, services.intake.catalogue)
    if caller_id and narrowed.caller_id != caller_id:
        raise Invalid("callerId and filter name two caller ids", field="filter")
    return ActionExecutions(data=[_shown(services, found) for found in services.history.executions(narrowed).rows])


@router.get("/{execution_id}", summary="One execution", response_model_exclude_none=True, responses=ERRORS_OF_ONE)
def one_execution(services: Services, person: Caller, execution_id: Id) -> ActionExecution:
    """Its status and its outputs. Needs containment-response-actions.read or data-gathering-response-actions.read, by
    the class of the action."""
    return _shown(services, services.intake.found(execution_id, person=person))


@router.delete(
    "/{execution_id}", summary="Undo an execution", response_model_exclude_none=True, responses=ERRORS_OF_ONE
)
async def undo(
    services: Services,
    person: Caller,
    parent: Trace,
    execution_id: Id,
    body: Annotated[SubmitUndo | None, Body()] = None,
) -> ActionExecution:
    """Undo, not cancel: the answer is a new execution, whose actionExecutionIdBeingUndone is this one. Needs
    containment-response-actions.exec or data-gathering-response-actions.exec, by the class of the action."""
    caller_id = (body.caller_id if body is not None else None) or ""
    written = await services.write(
        lambda: services.intake.undo(execution_id, person=person, caller_id=caller_id, parent=parent)
    )
    return await _answer(services, written)


@router.get(
    "/{execution_id}/acquired-file",
    summary=acquired_file.SUMMARY,
    response_class=Response,
    responses={**ERRORS_OF_ONE, **acquired_file.FILE},
)
async def download(services: Services, person: Caller, parent: Trace, execution_id: Id) -> Response:
    """Its content, which may be malware or a secret; the audit log records who downloads it. 404 if the execution
    acquired nothing."""
    return await acquired_file.respond(services, execution_id, person=person, parent=parent)


async def _answer(services: GatewayServices, written: WrittenRequest) -> ActionExecution:
    """What history has of it; the request alone if history is behind."""
    known = written.known or await services.folded(written.execution_id) or expected_execution(written.request)
    return await run_in_threadpool(_shown, services, known)


def _shown(services: GatewayServices, execution: Execution) -> ActionExecution:
    undone = services.history.execution(execution.undo_of) if execution.undo_of else None
    return show.execution(execution, undone=undone)

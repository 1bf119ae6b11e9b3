"""``/api/v1/executions``: request an action, undo or cancel an execution.

The native API's writing routes. Next: ``gateway.intake``.
"""

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body
from starlette.requests import Request
from starlette.responses import Response

from workers.gateway.http.errors import ErrorView
from workers.gateway.http.native.bodies import CancelBody, ExecutionBody, UndoBody
from workers.gateway.http.native.execution_view import ExecutionView
from workers.gateway.http.native.parameters import Id, IdempotencyKey
from workers.gateway.http.security import Caller
from workers.gateway.http.services import GatewayServices, Services, Trace
from workers.gateway.intake import WrittenRequest
from workers.gateway.requests import expected_execution

_CONFLICT: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": ErrorView, "description": "The state of the execution does not allow it; the message says why."}
}
_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": ExecutionView, "description": "The log has the request; history does not have it yet."},
    **_CONFLICT,
}
_REQUESTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": ExecutionView, "description": "The same request came before under this key; nothing was written."},
    **_WRITTEN,
}

router = APIRouter(prefix="/executions", tags=["executions"])


@router.post("", status_code=201, summary="Request an action", responses=_REQUESTED)
async def execute(
    request: Request,
    response: Response,
    body: ExecutionBody,
    services: Services,
    person: Caller,
    parent: Trace,
    key: IdempotencyKey = "",
) -> ExecutionView:
    """Answered once the log has the request and history has it too (202 if history takes longer than 2 s). The action
    runs asynchronously: read the execution again, by its id, for its outcome. 200 if the idempotency key was used."""
    submission = body.submission()
    written = await services.write(lambda: services.intake.execute(submission, person=person, key=key, parent=parent))
    response.headers["Location"] = f"{request.url.path}/{written.execution_id}"
    return await _answer(services, written, response)


@router.delete("/{execution_id}", status_code=201, summary="Undo an execution", responses=_WRITTEN)
async def undo(
    response: Response,
    execution_id: Id,
    services: Services,
    person: Caller,
    parent: Trace,
    body: Annotated[UndoBody, Body()] = UndoBody(),
    key: IdempotencyKey = "",
) -> ExecutionView:
    """Undo, not cancel: the answer is a new execution. 409 if the action cannot be undone; 200 if the idempotency key
    was used."""
    written = await services.write(
        lambda: services.intake.undo(execution_id, person=person, reason=body.reason, key=key, parent=parent)
    )
    return await _answer(services, written, response)


@router.post("/{execution_id}/cancel", status_code=202, summary="Cancel an execution", responses=_CONFLICT)
async def cancel(
    execution_id: Id,
    services: Services,
    person: Caller,
    parent: Trace,
    body: Annotated[CancelBody, Body()] = CancelBody(),
) -> ExecutionView:
    """Writes the request to cancel and answers with the execution as it is then. Only an execution that has not ended
    can be cancelled."""
    running = await services.write(
        lambda: services.intake.cancel(execution_id, person=person, reason=body.reason, parent=parent)
    )
    return ExecutionView.of(running, signer=services.signer, catalogue=services.intake.catalogue)


async def _answer(services: GatewayServices, written: WrittenRequest, response: Response) -> ExecutionView:
    """201 with what history has, 202 with the request alone if history is behind, 200 if the key was used before."""
    if written.known is not None:
        response.status_code = 200
        return ExecutionView.of(written.known, signer=services.signer, catalogue=services.intake.catalogue)
    known = await services.folded(written.execution_id)
    if known is None:
        response.status_code = 202
        known = replace(expected_execution(written.request), steps=())
    return ExecutionView.of(known, signer=services.signer, catalogue=services.intake.catalogue)

"""``/api/v1/executions``, the verbs that ask for something: execute, undo, cancel."""

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Body, FastAPI, Header, Path
from starlette.requests import Request
from starlette.responses import Response

from workers.gateway import show_execution
from workers.gateway.http.native.bodies import CancelBody, ExecutionBody, UndoBody
from workers.gateway.http.services import PREFIX, Services, caller, trace_of
from workers.gateway.intake import Asked
from workers.gateway.views.executions import ExecutionView
from workers.gateway.views.refusals import ErrorView

Id = Annotated[str, Path(max_length=128, description="An execution id.")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="Asking again under the same key, for at least a day, is the same execution.",
    ),
]
_CONFLICT: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": ErrorView, "description": "What is there does not allow it; the message says why."}
}
_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": ExecutionView, "description": "The log has it, and history does not know of it yet."},
    **_CONFLICT,
}
_ASKED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": ExecutionView, "description": "This key was used for the same before; nothing was written."},
    **_WRITTEN,
}


def add(app: FastAPI, services: Services) -> None:
    """Add the routes."""

    async def answered(asked: Asked, response: Response) -> ExecutionView:
        """201 with what history says of it, 202 with what was asked when history is behind, 200 when it was known."""
        if asked.known is not None:
            response.status_code = 200
            return show_execution.execution(asked.known, signer=services.signer)
        known = await services.folded(asked.execution_id)
        if known is None:
            response.status_code = 202
            known = replace(show_execution.awaited(asked.request), steps=())
        return show_execution.execution(known, signer=services.signer)

    @app.post(
        f"{PREFIX}/executions", tags=["executions"], status_code=201, summary="Ask for an action", responses=_ASKED
    )
    async def ask(request: Request, response: Response, body: ExecutionBody, key: IdempotencyKey = "") -> ExecutionView:
        """Answered once the log has the request and history knows of it (202 where history takes longer than 2 s);
        it runs asynchronously: read it again, by its id, for its outcome. 200 where the idempotency key was used."""
        person, parent, submission = caller(request), trace_of(request), body.submission()
        asked = await services.writing(lambda: services.intake.ask(submission, person=person, key=key, parent=parent))
        response.headers["Location"] = f"{request.url.path}/{asked.execution_id}"
        return await answered(asked, response)

    @app.delete(
        f"{PREFIX}/executions/{{execution_id}}",
        tags=["executions"],
        status_code=201,
        summary="Undo an execution",
        responses=_WRITTEN,
    )
    async def undo(
        request: Request,
        response: Response,
        execution_id: Id,
        body: Annotated[UndoBody, Body()] = UndoBody(),
        key: IdempotencyKey = "",
    ) -> ExecutionView:
        """Undo, not cancel: the answer is a new execution. 409 where the action cannot be undone; 200 where the
        idempotency key was used."""
        person, parent = caller(request), trace_of(request)
        asked = await services.writing(
            lambda: services.intake.undo(execution_id, person=person, reason=body.reason, key=key, parent=parent)
        )
        return await answered(asked, response)

    @app.post(
        f"{PREFIX}/executions/{{execution_id}}/cancel",
        tags=["executions"],
        status_code=202,
        summary="Cancel an execution",
        responses=_CONFLICT,
    )
    async def cancel(
        request: Request, execution_id: Id, body: Annotated[CancelBody, Body()] = CancelBody()
    ) -> ExecutionView:
        """Asks for it, and answers with the execution as it is then; only what has not ended can be cancelled."""
        person, parent = caller(request), trace_of(request)
        running = await services.writing(
            lambda: services.intake.cancel(execution_id, person=person, reason=body.reason, parent=parent)
        )
        return show_execution.execution(running, signer=services.signer)

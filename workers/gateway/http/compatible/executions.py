"""``/action-executions``: ask for an action, list, read, undo."""

from typing import Annotated, TypeAlias

from fastapi import Body, FastAPI, Header, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from workers.domain.history.execution import Execution
from workers.domain.history.queries import ExecutionQuery
from workers.gateway import show_execution as native
from workers.gateway.http.compatible import filters, show, vocabulary
from workers.gateway.http.compatible.answers import ANSWERS, MISSING
from workers.gateway.http.compatible.bodies import (
    ActionExecution,
    ActionExecutions,
    SubmitActionExecution,
    SubmitUndo,
)
from workers.gateway.http.compatible.submissions import in_its_words, wish_of
from workers.gateway.http.services import COMPATIBLE, Services, caller, trace_of
from workers.gateway.intake import Asked
from workers.gateway.permissions import readable
from workers.gateway.refusals import Invalid

PATH = f"{COMPATIBLE}/action-executions"

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
        description="Asking again under the same key, for at least a day, is the same execution.",
    ),
]


def add(app: FastAPI, services: Services) -> None:
    """Add the routes."""

    def shown(execution: Execution) -> ActionExecution:
        undone = services.history.execution(execution.undo_of) if execution.undo_of else None
        return show.execution(execution, undone=undone)

    async def answered(asked: Asked) -> ActionExecution:
        """What history says of it; what was asked where history takes too long."""
        known = asked.known or await services.folded(asked.execution_id) or native.awaited(asked.request)
        return await run_in_threadpool(shown, known)

    @app.post(
        PATH,
        tags=["compatible"],
        status_code=201,
        summary="Ask for an action",
        response_model_exclude_none=True,
        responses=ANSWERS,
    )
    async def submit(request: Request, body: SubmitActionExecution, key: IdempotencyKey = "") -> ActionExecution:
        """Answered once the log has the request; it runs asynchronously. What only undoes is refused: use DELETE. Needs
        containment-response-actions.exec or data-gathering-response-actions.exec, by the class of the action."""
        person, parent = caller(request), trace_of(request)
        submission = wish_of(body, services.intake.catalogue)
        return await answered(
            await services.writing(
                lambda: in_its_words(lambda: services.intake.ask(submission, person=person, key=key, parent=parent))
            )
        )

    @app.get(
        PATH,
        tags=["compatible"],
        summary="List executions, newest first",
        response_model_exclude_none=True,
        responses=ANSWERS,
    )
    def listed(
        request: Request,
        caller_id: CallerId = "",
        filter_: Annotated[Filter, Query(alias="filter")] = "",
        limit: Limit = 25,
        offset: Offset = 0,
        from_: Annotated[Moment, Query(alias="from")] = 0,
        to: Moment = 0,
    ) -> ActionExecutions:
        """Only what this caller may read: containment-response-actions.read, data-gathering-response-actions.read or
        both. ``from`` is the first moment that belongs, ``to`` the first that does not."""
        person, catalogue = caller(request), services.intake.catalogue
        if to and from_ >= to:
            raise Invalid("from must be before to", field="from")
        query = ExecutionQuery(
            caller_id=caller_id,
            actions=readable(person, catalogue),
            from_ns=from_,
            to_ns=to,
            limit=limit,
            offset=offset,
        )
        narrowed = filters.narrowed(query, filter_, catalogue)
        if caller_id and narrowed.caller_id != caller_id:
            raise Invalid("callerId and filter name two caller ids", field="filter")
        return ActionExecutions(data=[shown(found) for found in services.history.executions(narrowed).rows])

    @app.get(
        f"{PATH}/{{execution_id}}",
        tags=["compatible"],
        summary="One execution",
        response_model_exclude_none=True,
        responses=MISSING,
    )
    def one(request: Request, execution_id: Id) -> ActionExecution:
        """How far it is, and what it reports. Needs containment-response-actions.read or
        data-gathering-response-actions.read, by the class of the action."""
        return shown(services.intake.found(execution_id, person=caller(request)))

    @app.delete(
        f"{PATH}/{{execution_id}}",
        tags=["compatible"],
        summary="Undo an execution",
        response_model_exclude_none=True,
        responses=MISSING,
    )
    async def undo(
        request: Request, execution_id: Id, body: Annotated[SubmitUndo | None, Body()] = None
    ) -> ActionExecution:
        """Undo, not cancel: the answer is a new execution, whose actionExecutionIdBeingUndone is this one. Needs
        containment-response-actions.exec or data-gathering-response-actions.exec, by the class of the action."""
        person, parent = caller(request), trace_of(request)
        caller_id = (body.caller_id if body is not None else None) or ""
        return await answered(
            await services.writing(
                lambda: services.intake.undo(execution_id, person=person, caller_id=caller_id, parent=parent)
            )
        )

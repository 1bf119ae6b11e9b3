"""``/api/v1/executions`` and ``/api/v1/contained``: what was requested, what was done, which effects are in place.

The native API's reading routes. Next: ``execution_view``.
"""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from workers.domain.history.queries import ExecutionQuery
from workers.domain.outcome import Outcome, Stage
from workers.gateway.http import acquired_file
from workers.gateway.http.native.execution_view import ExecutionView
from workers.gateway.http.native.parameters import Between, Cursor, Filter, Id, Limit, Listed, one_of, page
from workers.gateway.http.security import Caller, ReadableActions
from workers.gateway.http.services import Services, Trace, ended

Wait = Annotated[
    float, Query(ge=0, le=60, description="Answer once it has ended, or after so many seconds, whichever is first.")
]

router = APIRouter(tags=["executions"])


@router.get("/executions", summary="List executions, newest request first")
def list_executions(
    services: Services,
    actions: ReadableActions,
    between: Between,
    host: Filter = "",
    container: Filter = "",
    workload: Filter = "",
    cluster: Filter = "",
    rule: Filter = "",
    actor: Filter = "",
    action: Filter = "",
    outcome: Filter = "",
    stage: Filter = "",
    event_id: Filter = "",
    caller_id: Filter = "",
    undo_of: Filter = "",
    limit: Limit = 25,
    cursor: Cursor = "",
) -> Listed[ExecutionView]:
    """Filters are combined with AND; ``host`` is a node id or host name. Steps are left out: read one execution."""
    query = ExecutionQuery(
        host=host,
        container=container,
        workload=workload,
        cluster=cluster,
        rule=rule,
        actor=actor,
        action=action.lower(),
        outcome=one_of(Outcome, outcome, field="outcome"),
        stage=one_of(Stage, stage, field="stage"),
        event_id=event_id,
        caller_id=caller_id,
        undo_of=undo_of,
        actions=actions,
        from_ns=between.from_ns,
        to_ns=between.to_ns,
        limit=limit,
        cursor=cursor,
    )
    found = page(lambda: services.history.executions(query))
    rows = [ExecutionView.of(row, signer=services.signer, catalogue=services.intake.catalogue) for row in found.rows]
    return Listed(data=rows, next=found.next_cursor or None)


@router.get("/executions/{execution_id}", summary="One execution, with its steps")
async def one_execution(services: Services, person: Caller, execution_id: Id, wait_s: Wait = 0.0) -> ExecutionView:
    """The request, the stage, the outcome and the proof."""
    known = await run_in_threadpool(lambda: services.intake.found(execution_id, person=person))
    if wait_s and not ended(known):
        known = await services.until(ended, known.execution_id, wait_s) or known
    progress = await run_in_threadpool(lambda: services.progress(known))
    catalogue = services.intake.catalogue
    return ExecutionView.of(known, signer=services.signer, catalogue=catalogue, progress=progress)


@router.get("/contained", summary="What is contained right now")
def contained(services: Services, actions: ReadableActions) -> Listed[ExecutionView]:
    """Executions whose effect is in place and was not undone."""
    rows = [row for row in services.history.contained() if actions is None or row.action in actions]
    return Listed(
        data=[ExecutionView.of(row, signer=services.signer, catalogue=services.intake.catalogue) for row in rows]
    )


@router.get(
    "/executions/{execution_id}/acquired-file",
    summary=acquired_file.SUMMARY,
    response_class=Response,
    responses=acquired_file.FILE,
)
async def download(services: Services, person: Caller, parent: Trace, execution_id: Id) -> Response:
    """Its content, which may be malware or a secret; the audit log records who downloads it. 404 if the execution
    acquired nothing."""
    return await acquired_file.respond(services, execution_id, person=person, parent=parent)

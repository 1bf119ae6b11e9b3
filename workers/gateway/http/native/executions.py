"""``/api/v1/executions`` and ``/api/v1/contained``: what was asked, what was done, what holds."""

from typing import Annotated

from fastapi import FastAPI, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from workers.domain.history.execution import Execution
from workers.domain.history.queries import ExecutionQuery
from workers.domain.outcome import Outcome, Stage
from workers.gateway import show_execution
from workers.gateway.http.native.lists import Cursor, Filter, Limit, Listed, Moment, Since, one_of, page
from workers.gateway.http.services import PREFIX, Services, caller, ended
from workers.gateway.permissions import readable
from workers.gateway.times import moment, since
from workers.gateway.views.executions import ExecutionView

Id = Annotated[str, Path(max_length=128, description="An execution id.")]

Wait = Annotated[
    float, Query(ge=0, le=60, description="Answer once it has ended, or after so many seconds, whichever is first.")
]


def add(app: FastAPI, services: Services) -> None:
    """Add the routes."""

    @app.get(f"{PREFIX}/executions", tags=["executions"], summary="List executions, newest request first")
    def listed(
        request: Request,
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
        since_: Annotated[Since, Query(alias="since")] = "",
        from_: Annotated[Moment, Query(alias="from")] = "",
        to: Moment = "",
        limit: Limit = 25,
        cursor: Cursor = "",
    ) -> Listed[ExecutionView]:
        """Every filter narrows; ``host`` is a node id or host name. Steps are left out: ask for one execution."""
        person = caller(request)
        start = since(since_, now_ns=services.clock.now_ns()) if since_ else moment(from_, field="from")
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
            actions=readable(person, services.intake.catalogue),
            from_ns=start,
            to_ns=moment(to, field="to"),
            limit=limit,
            cursor=cursor,
        )
        found = page(lambda: services.history.executions(query))
        return Listed(data=[_shown(row) for row in found.rows], next=found.next_cursor or None)

    @app.get(f"{PREFIX}/executions/{{execution_id}}", tags=["executions"], summary="One execution, with its steps")
    async def one(request: Request, execution_id: Id, wait_s: Wait = 0.0) -> ExecutionView:
        """What was asked, how far it is, how it ended, and the proof."""
        person = caller(request)
        known = await run_in_threadpool(lambda: services.intake.found(execution_id, person=person))
        if wait_s and not ended(known):
            known = await services.until(ended, known.execution_id, wait_s) or known
        return show_execution.execution(known, signer=services.signer)

    @app.get(f"{PREFIX}/contained", tags=["executions"], summary="What is contained right now")
    def contained(request: Request) -> Listed[ExecutionView]:
        """Executions whose effect holds and was not undone."""
        actions = readable(caller(request), services.intake.catalogue)
        holding = [row for row in services.history.contained() if actions is None or row.action in actions]
        return Listed(data=[_shown(row) for row in holding])

    def _shown(execution: Execution) -> ExecutionView:
        return show_execution.execution(execution, signer=services.signer)

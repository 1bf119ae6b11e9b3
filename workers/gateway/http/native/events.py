"""``/api/v1/events``: hand in a detector's events, and look at what was handed in."""

from typing import Annotated

from fastapi import FastAPI, Path, Query
from starlette.requests import Request

from workers.domain.history.queries import EventQuery
from workers.domain.ids import EventId
from workers.gateway import show_fleet
from workers.gateway.http.native.lists import Cursor, Filter, Limit, Listed, Moment, Since, page
from workers.gateway.http.services import PREFIX, Services, caller, trace_of
from workers.gateway.refusals import NotFound
from workers.gateway.times import moment, since
from workers.gateway.views.events import AcceptedEventView, EventView

_FALCO = {
    "requestBody": {
        "required": True,
        "description": "One Falco alert as Falco's http_output or falcosidekick posts it, a list, or one a line.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]},
                "example": {
                    "hostname": "web-1",
                    "time": "2026-07-04T20:46:44.180672852Z",
                    "rule": "Terminal shell in container",
                    "priority": "Notice",
                    "output_fields": {"proc.pid": 4711, "proc.pid.ts": 1783198004170000000},
                },
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


def add(app: FastAPI, services: Services) -> None:
    """Add the routes."""

    @app.post(
        f"{PREFIX}/events",
        tags=["events"],
        status_code=202,
        openapi_extra=_FALCO,
        summary="Hand in a detector's events",
    )
    async def hand_in(request: Request) -> Listed[AcceptedEventView]:
        """All of them or none: answered once the log has every one. The same event handed in twice keeps its id."""
        body, person, parent = await request.body(), caller(request), trace_of(request)
        ids = await services.writing(lambda: services.intake.hand_in(body, person=person, parent=parent))
        return Listed(data=[AcceptedEventView(id_) for id_ in ids])

    @app.get(f"{PREFIX}/events", tags=["events"], summary="List events, newest first")
    def listed(
        request: Request,
        host: Filter = "",
        rule: Filter = "",
        container: Filter = "",
        workload: Filter = "",
        cluster: Filter = "",
        since_: Annotated[Since, Query(alias="since")] = "",
        from_: Annotated[Moment, Query(alias="from")] = "",
        to: Moment = "",
        limit: Limit = 25,
        cursor: Cursor = "",
    ) -> Listed[EventView]:
        """Every filter narrows; ``host`` is a node id or host name."""
        caller(request)
        start = since(since_, now_ns=services.clock.now_ns()) if since_ else moment(from_, field="from")
        query = EventQuery(host, rule, container, workload, cluster, start, moment(to, field="to"), limit, cursor)
        found = page(lambda: services.history.events(query))
        return Listed(data=[show_fleet.event(row) for row in found.rows], next=found.next_cursor or None)

    @app.get(f"{PREFIX}/events/{{event_id}}", tags=["events"], summary="One event, and the executions it led to")
    def one(request: Request, event_id: Annotated[str, Path(max_length=128)]) -> EventView:
        """404 until history has it, a moment after it was handed in."""
        caller(request)
        stored = services.history.event(EventId(event_id))
        if stored is None:
            raise NotFound(f"there is no event {event_id!r}")
        return show_fleet.event(stored)

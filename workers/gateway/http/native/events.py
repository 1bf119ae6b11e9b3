"""``/api/v1/events``: submit a detector's events, and read them.

Routes of the native API. Next: ``gateway.intake`` for what is written, ``event_view`` for what is read.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Security
from starlette.requests import Request

from workers.domain.history.queries import EventQuery
from workers.domain.ids import EventId
from workers.gateway.http.native.event_view import AcceptedEventView, EventView
from workers.gateway.http.native.parameters import Between, Cursor, Filter, Limit, Listed, page
from workers.gateway.http.security import Caller, caller
from workers.gateway.http.services import Services, Trace
from workers.gateway.refusals import NotFound

_FALCO: Final = {
    "requestBody": {
        "required": True,
        "description": "One Falco alert as Falco's http_output or falcosidekick posts it, a list of alerts, or one "
        "alert per line.",
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

router = APIRouter(prefix="/events", tags=["events"])


@router.post("", status_code=202, openapi_extra=_FALCO, summary="Submit a detector's events")
async def submit(request: Request, services: Services, person: Caller, parent: Trace) -> Listed[AcceptedEventView]:
    """All of them or none: answered once the log has every one. An event that is submitted twice keeps its id."""
    body = await request.body()
    ids = await services.write(lambda: services.intake.submit_events(body, person=person, parent=parent))
    return Listed(data=[AcceptedEventView(event_id=id_) for id_ in ids])


@router.get("", summary="List events, newest first", dependencies=[Security(caller)])
def list_events(
    services: Services,
    between: Between,
    host: Filter = "",
    rule: Filter = "",
    container: Filter = "",
    workload: Filter = "",
    cluster: Filter = "",
    limit: Limit = 25,
    cursor: Cursor = "",
) -> Listed[EventView]:
    """Filters are combined with AND; ``host`` is a node id or host name."""
    query = EventQuery(host, rule, container, workload, cluster, between.from_ns, between.to_ns, limit, cursor)
    found = page(lambda: services.history.events(query))
    return Listed(data=[EventView.of(row) for row in found.rows], next=found.next_cursor or None)


@router.get("/{event_id}", summary="One event, and the executions it led to", dependencies=[Security(caller)])
def one_event(services: Services, event_id: Annotated[str, Path(max_length=128)]) -> EventView:
    """404 until history has it, a moment after it was submitted."""
    stored = services.history.event(EventId(event_id))
    if stored is None:
        raise NotFound(f"there is no event {event_id!r}")
    return EventView.of(stored)

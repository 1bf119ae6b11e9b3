"""``/api/v1/nodes``, ``/api/v1/actions`` and ``/api/v1/health``. Routes of the native API. Next: ``fleet_view``."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Security
from starlette.responses import Response

from workers import __version__
from workers.actions.base import AnyAction
from workers.domain.errors import WorkerError
from workers.gateway.http.native.action_view import ActionView
from workers.gateway.http.native.fleet_view import HealthView, NodeView, shared_names
from workers.gateway.http.native.parameters import Filter, Listed
from workers.gateway.http.security import KnownCaller, caller
from workers.gateway.http.services import Services
from workers.gateway.refusals import NotFound

router = APIRouter(tags=["fleet"])


@router.get("/nodes", summary="Every node that ever sent a heartbeat", dependencies=[Security(caller)])
def list_nodes(services: Services, host: Filter = "") -> Listed[NodeView]:
    """``host`` finds nodes by node id or host name."""
    fleet = services.history.nodes()
    shared = shared_names(fleet)
    return Listed(
        data=[
            NodeView.of(stored, shared)
            for stored in fleet
            if host in ("", stored.state.node_id, *stored.state.host_names)
        ]
    )


@router.get("/nodes/{node_id}", summary="One node's newest heartbeat", dependencies=[Security(caller)])
def one_node(services: Services, node_id: Annotated[str, Path(max_length=128)]) -> NodeView:
    """404 until its first heartbeat is in history."""
    fleet = services.history.nodes()
    stored = next((each for each in fleet if each.state.node_id == node_id), None)
    if stored is None:
        raise NotFound(f"there is no node {node_id!r}; GET /api/v1/nodes?host= finds one by host name")
    return NodeView.of(stored, shared_names(fleet))


@router.get(
    "/actions", summary="The actions that nodes offer, as they describe themselves", dependencies=[Security(caller)]
)
def list_actions(
    services: Services, host: Filter = "", everything: Annotated[bool, Query(alias="all")] = False
) -> Listed[ActionView]:
    """Only what a node offers now, with ``host`` only what the nodes of that id or name offer; ``all`` lists the whole
    catalogue."""
    rows = [_action(action, services, host) for action in services.intake.catalogue.values()]
    return Listed(data=[row for row in rows if everything or row.offered_by])


@router.get("/actions/{name}", summary="One action", dependencies=[Security(caller)])
def one_action(services: Services, name: Annotated[str, Path(max_length=128)]) -> ActionView:
    """By its name or API type."""
    found = services.intake.catalogue.get(name.lower())
    if found is None:
        raise NotFound(f"there is no action {name!r}; there are: {', '.join(sorted(services.intake.catalogue))}")
    return _action(found, services)


def _action(action: AnyAction, services: Services, host: str = "") -> ActionView:
    now_ns = services.clock.now_ns()
    nodes = [each for each in services.history.nodes() if host in ("", each.state.node_id, *each.state.host_names)]
    return ActionView.of(action, offered_by=sum(each.offers(action.name, now_ns=now_ns) for each in nodes))


@router.get(
    "/health",
    summary="Whether the gateway works",
    response_model_exclude_none=True,
    openapi_extra={"security": [{}]},  # beside the framework's: a token is optional
)
def health(services: Services, person: KnownCaller, response: Response) -> HealthView:
    """Without a token only `live` and `ready`; 503 if history cannot be read."""
    try:
        store = services.history.health()
        nodes = len(services.history.nodes())
    except WorkerError:
        response.status_code = 503
        return HealthView(live=True, ready=False)
    if person is None:
        return HealthView(live=True, ready=True)
    return HealthView.of(
        store, nodes=nodes, version=__version__, now_ns=services.clock.now_ns(), keyset=services.keyset()
    )

"""``/api/v1/nodes``, ``/api/v1/actions`` and ``/api/v1/health``."""

from typing import Annotated

from fastapi import FastAPI, Path
from starlette.requests import Request
from starlette.responses import Response

from workers import __version__
from workers.core.errors import WorkerError
from workers.gateway import fleet_showing
from workers.gateway.http.native.lists import Filter, Listed
from workers.gateway.http.room import PREFIX, Room, caller
from workers.gateway.refusals import NotFound
from workers.gateway.views.catalogue import ActionView
from workers.gateway.views.fleet import HealthView, NodeView


def add(app: FastAPI, room: Room) -> None:
    """Add the routes."""

    @app.get(f"{PREFIX}/nodes", tags=["fleet"], summary="Every node ever heard")
    def nodes(request: Request, host: Filter = "") -> Listed[NodeView]:
        """``host`` finds nodes by node id or host name."""
        caller(request)
        return Listed(
            data=[
                fleet_showing.node(stored)
                for stored in room.history.nodes()
                if host in ("", stored.state.node_id, *stored.state.host_names)
            ]
        )

    @app.get(f"{PREFIX}/nodes/{{node_id}}", tags=["fleet"], summary="One node's newest heartbeat")
    def node(request: Request, node_id: Annotated[str, Path(max_length=128)]) -> NodeView:
        """404 until its first heartbeat is in history."""
        caller(request)
        stored = next((each for each in room.history.nodes() if each.state.node_id == node_id), None)
        if stored is None:
            raise NotFound(f"no node {node_id!r} has been heard; GET /api/v1/nodes?host= finds one by host name")
        return fleet_showing.node(stored)

    @app.get(f"{PREFIX}/actions", tags=["fleet"], summary="The catalogue")
    def actions(request: Request) -> Listed[ActionView]:
        """Every action, as it describes itself."""
        caller(request)
        return Listed(data=[fleet_showing.action(action) for action in room.desk.catalogue.values()])

    @app.get(f"{PREFIX}/actions/{{name}}", tags=["fleet"], summary="One action")
    def action(request: Request, name: Annotated[str, Path(max_length=128)]) -> ActionView:
        """By its name or API type."""
        caller(request)
        found = room.desk.catalogue.get(name.lower())
        if found is None:
            raise NotFound(f"there is no action {name!r}; there are: {', '.join(sorted(room.desk.catalogue))}")
        return fleet_showing.action(found)

    @app.get(f"{PREFIX}/health", tags=["fleet"], summary="Whether the gateway works", response_model_exclude_none=True)
    def health(request: Request, response: Response) -> HealthView:
        """Without a token only live and ready; 503 where history cannot be read."""
        try:
            store = room.history.health()
            heard = len(room.history.nodes())
        except WorkerError:
            response.status_code = 503
            return HealthView(live=True, ready=False)
        if request.scope["state"]["principal"] is None:
            return HealthView(live=True, ready=True)
        return fleet_showing.health(store, nodes=heard, version=__version__, now_ns=room.clock.now_ns())

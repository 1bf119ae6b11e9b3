"""``/api/v1/nodes``, ``/api/v1/actions`` and ``/api/v1/health``."""

from typing import Annotated

from fastapi import FastAPI, Path
from starlette.requests import Request
from starlette.responses import Response

from workers import __version__
from workers.domain.errors import WorkerError
from workers.gateway import show_fleet
from workers.gateway.http.native.lists import Filter, Listed
from workers.gateway.http.services import PREFIX, Services, caller
from workers.gateway.refusals import NotFound
from workers.gateway.views.catalogue import ActionView
from workers.gateway.views.fleet import HealthView, NodeView


def add(app: FastAPI, services: Services) -> None:
    """Add the routes."""

    @app.get(f"{PREFIX}/nodes", tags=["fleet"], summary="Every node ever heard")
    def nodes(request: Request, host: Filter = "") -> Listed[NodeView]:
        """``host`` finds nodes by node id or host name."""
        caller(request)
        return Listed(
            data=[
                show_fleet.node(stored)
                for stored in services.history.nodes()
                if host in ("", stored.state.node_id, *stored.state.host_names)
            ]
        )

    @app.get(f"{PREFIX}/nodes/{{node_id}}", tags=["fleet"], summary="One node's newest heartbeat")
    def node(request: Request, node_id: Annotated[str, Path(max_length=128)]) -> NodeView:
        """404 until its first heartbeat is in history."""
        caller(request)
        stored = next((each for each in services.history.nodes() if each.state.node_id == node_id), None)
        if stored is None:
            raise NotFound(f"no node {node_id!r} has been heard; GET /api/v1/nodes?host= finds one by host name")
        return show_fleet.node(stored)

    @app.get(f"{PREFIX}/actions", tags=["fleet"], summary="The catalogue")
    def actions(request: Request) -> Listed[ActionView]:
        """Every action, as it describes itself."""
        caller(request)
        return Listed(data=[show_fleet.action(action) for action in services.intake.catalogue.values()])

    @app.get(f"{PREFIX}/actions/{{name}}", tags=["fleet"], summary="One action")
    def action(request: Request, name: Annotated[str, Path(max_length=128)]) -> ActionView:
        """By its name or API type."""
        caller(request)
        found = services.intake.catalogue.get(name.lower())
        if found is None:
            raise NotFound(f"there is no action {name!r}; there are: {', '.join(sorted(services.intake.catalogue))}")
        return show_fleet.action(found)

    @app.get(f"{PREFIX}/health", tags=["fleet"], summary="Whether the gateway works", response_model_exclude_none=True)
    def health(request: Request, response: Response) -> HealthView:
        """Without a token only live and ready; 503 where history cannot be read."""
        try:
            store = services.history.health()
            heard = len(services.history.nodes())
        except WorkerError:
            response.status_code = 503
            return HealthView(live=True, ready=False)
        if request.scope["state"]["principal"] is None:
            return HealthView(live=True, ready=True)
        return show_fleet.health(store, nodes=heard, version=__version__, now_ns=services.clock.now_ns())

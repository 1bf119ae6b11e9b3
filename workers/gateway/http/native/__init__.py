"""The native face: everything under ``/api/v1``.

Called by ``http.app``. Lists answer ``{"data": […], "next": cursor or null}``, single things are the object itself.
"""

from fastapi import APIRouter

from workers.gateway.http.native import events, executions, fleet, orders
from workers.gateway.http.room import Room
from workers.gateway.views import ErrorView

PREFIX = "/api/v1"


def native(room: Room) -> APIRouter:
    """All routes of the native face."""
    router = APIRouter(
        prefix=PREFIX, responses={400: {"model": ErrorView, "description": "What is wrong with which field."}}
    )
    router.include_router(events.routes(room))
    router.include_router(orders.routes(room))
    router.include_router(executions.routes(room))
    router.include_router(fleet.routes(room))
    return router

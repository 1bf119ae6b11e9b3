"""The native API: everything under ``/api/v1``.

Included by ``http.app``. Lists answer ``{"data": […], "next": cursor or null}``, single things are the object itself.
"""

from fastapi import APIRouter

from workers.gateway.http.errors import ErrorView
from workers.gateway.http.native import events, executions, fleet, requests
from workers.gateway.http.services import PREFIX

router = APIRouter(
    prefix=PREFIX,
    responses={"default": {"model": ErrorView, "description": "Why it was not served; the same body on every status."}},
)
for part in (events, requests, executions, fleet):
    router.include_router(part.router)

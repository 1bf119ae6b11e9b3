"""The native face: everything under ``/api/v1``.

Called by ``http.app``. Lists answer ``{"data": […], "next": cursor or null}``, single things are the object itself.
"""

from fastapi import FastAPI

from workers.gateway.http.native import acquired, events, executions, fleet, requests
from workers.gateway.http.services import Services


def add_native(app: FastAPI, services: Services) -> None:
    """Add all routes of the native face."""
    for part in (events, requests, executions, acquired, fleet):
        part.add(app, services)

"""The native face: everything under ``/api/v1``.

Called by ``http.app``. Lists answer ``{"data": […], "next": cursor or null}``, single things are the object itself.
"""

from fastapi import FastAPI

from workers.gateway.http.native import acquired, events, executions, fleet, orders
from workers.gateway.http.room import Room


def add_native(app: FastAPI, room: Room) -> None:
    """Add all routes of the native face."""
    for part in (events, orders, executions, acquired, fleet):
        part.add(app, room)

"""The compatible face: everything under ``/secure/response-actions/v1alpha1``, for clients that exist already.

Called by ``http.app``; a sibling of ``native`` over the same desk and the same history. ``words`` has every name and
limit of that API, ``actions`` and ``executions`` the routes. The download of an acquired file belongs here too, as
``acquired_file``: ``GET /action-executions/{id}/acquired-file``.
"""

from fastapi import FastAPI

from workers.gateway.http.compatible import actions, executions
from workers.gateway.http.room import Room


def add_compatible(app: FastAPI, room: Room) -> None:
    """Add all routes of the compatible face."""
    for part in (actions, executions):
        part.add(app, room)

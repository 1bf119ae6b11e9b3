"""The compatible face: everything under ``/secure/response-actions/v1alpha1``, for clients that exist already.

Called by ``http.app``; a sibling of ``native`` over the same desk and the same history. ``words`` has every name and
limit of that API, ``actions``, ``executions`` and ``acquired_file`` the routes.
"""

from fastapi import FastAPI

from workers.gateway.http.compatible import acquired_file, actions, executions
from workers.gateway.http.services import Services


def add_compatible(app: FastAPI, services: Services) -> None:
    """Add all routes of the compatible face."""
    for part in (actions, executions, acquired_file):
        part.add(app, services)

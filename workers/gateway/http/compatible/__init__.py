"""The compatible API: everything under ``/secure/response-actions/v1alpha1``, for clients that already exist.

Included by ``http.app``, beside ``native`` and over the same intake and history. ``vocabulary`` has every name and
limit of that API; ``actions`` and ``executions`` have the routes.
"""

from fastapi import APIRouter

from workers.gateway.http.compatible import actions, executions
from workers.gateway.http.services import COMPATIBLE

router = APIRouter(prefix=COMPATIBLE, tags=["compatible"])
for part in (actions, executions):
    router.include_router(part.router)

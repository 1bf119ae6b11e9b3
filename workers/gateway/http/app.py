"""The application: routes of both APIs, exception handlers and the OpenAPI document, inside the edge.

Called by ``wiring.gateway``. A request passes ``Edge``, the bearer token, ``BoundedBody``, then its route.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import Response

from workers import __version__
from workers.domain.errors import TransientFailure
from workers.domain.trust.keyset import Keyset
from workers.gateway.http import compatible, errors, native
from workers.gateway.http.edge import BoundedBody, Edge
from workers.gateway.http.security import OPENAPI, BearerBackend
from workers.gateway.http.services import FOLD_WAIT_S, GatewayServices, Signer
from workers.gateway.intake import GatewayIntake
from workers.gateway.principals import RateLimit, Tokens
from workers.gateway.refusals import Refused

_RATE: Final = {
    "X-RateLimit-Limit": {"description": "Requests a minute that a caller may make.", "schema": {"type": "integer"}}
}


def build(
    intake: GatewayIntake,
    *,
    tokens: Tokens,
    limit: RateLimit,
    signer: Signer,
    keyset: Callable[[], Keyset],
    fold_wait_s: float = FOLD_WAIT_S,
) -> Edge:
    """The ASGI application of one gateway."""
    app = _Application(
        title="Douse",
        version=__version__,
        summary="Response actions: what was requested, what was done, and the proof.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = GatewayServices(intake, intake.history, intake.clock, signer, keyset, fold_wait_s)
    app.include_router(native.router)
    app.include_router(compatible.router)
    app.add_exception_handler(Refused, _error)
    app.add_exception_handler(TransientFailure, _error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)
    return Edge(
        AuthenticationMiddleware(BoundedBody(app), backend=BearerBackend(tokens, limit)),
        limit=limit,
        trail=intake.trail,
        telemetry=intake.telemetry,
        clock=intake.clock,
    )


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The framework's document, with the header that ``Edge`` adds to every answer, and without 422: an invalid
        request is answered 400 here."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                for answer in operation["responses"].values():
                    answer["headers"] = {**answer.get("headers", {}), **_RATE}
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        return document


async def _error(request: Request, error: Exception) -> Response:
    return errors.of_error(cast("Refused | TransientFailure", error), request.url.path)


async def _validation(request: Request, error: Exception) -> Response:
    return errors.of_validation(cast(RequestValidationError, error), request.url.path)


async def _fault(request: Request, error: Exception) -> Response:
    """The framework raises the exception again after this answer, so that the edge logs it."""
    return errors.internal(request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    return errors.of_http(request, cast(HTTPException, error))

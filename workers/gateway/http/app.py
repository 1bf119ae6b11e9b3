"""The application: routes, exception handlers and the OpenAPI document, inside the edge.

Called by bootstrap.
"""

from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from workers import __version__
from workers.domain.errors import TransientFailure
from workers.gateway.http import answers, openapi
from workers.gateway.http.compatible import add_compatible
from workers.gateway.http.edge import OPENAPI, App, Edge
from workers.gateway.http.native import add_native
from workers.gateway.http.services import FOLD_WAIT_S, Services
from workers.gateway.intake import Intake
from workers.gateway.principals import RateLimit, Tokens
from workers.gateway.refusals import Refused
from workers.gateway.show_execution import Signer


def build(
    intake: Intake, *, tokens: Tokens, limit: RateLimit, signer: Signer, fold_wait_s: float = FOLD_WAIT_S
) -> Edge:
    """The ASGI application of one gateway."""
    app = FastAPI(
        title="Douse",
        version=__version__,
        summary="Response actions: what was asked, what was done, and the proof.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    services = Services(intake, intake.history, intake.clock, signer, fold_wait_s)
    add_native(app, services)
    add_compatible(app, services)
    app.add_exception_handler(Refused, _named)
    app.add_exception_handler(TransientFailure, _named)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)
    app.openapi = openapi.document_of(app)  # type: ignore[method-assign]
    return Edge(
        cast(App, app), tokens=tokens, limit=limit, trail=intake.trail, telemetry=intake.telemetry, clock=intake.clock
    )


async def _named(request: Request, error: Exception) -> Response:
    return answers.of_error(cast("Refused | TransientFailure", error), request.url.path)


async def _validation(request: Request, error: Exception) -> Response:
    return answers.of_validation(cast(RequestValidationError, error), request.url.path)


async def _fault(request: Request, error: Exception) -> Response:
    """The framework raises it again behind this answer, so that the edge logs it."""
    return answers.internal(request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    return answers.of_http(request, cast(HTTPException, error))

"""Answers that are no success: one body shape on every status, and which status an error has.

Called by the edge and by the application's exception handlers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workers.core.errors import TransientFailure
from workers.gateway.refusals import Refused, TooMany, Unauthorized

LONGEST_MESSAGE: Final = 8192
"""Characters; the compatible API's own limit."""

MOST_DETAILS: Final = 20
"""Faults named of one request."""

_IN_BRACES: Final = re.compile(r"\{\w+\}")

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
}


def answer(
    status: int, type_: str, message: str, details: Sequence[Mapping[str, str]] = (), **headers: str
) -> Response:
    """An error's answer."""
    body = {"type": type_, "message": _printable(message[:LONGEST_MESSAGE]), "details": list(details)}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status_code=status, headers=named)


def of_error(error: Refused | TransientFailure) -> Response:
    """The answer to a refusal or an error of ours."""
    match error:
        case TooMany():
            return answer(429, error.reason, error.message, retry_after=_seconds(error.retry_after_s))
        case Unauthorized():
            return answer(401, error.reason, error.message, www_authenticate="Bearer")
        case Refused():
            details = [{name: _printable(value) for name, value in error.details.items()}] if error.details else []
            return answer(error.status, error.reason, error.message, details)
        case TransientFailure():
            return answer(503, error.reason, error.message, retry_after=_seconds(error.retry_after_s))


def internal() -> Response:
    """The answer to a fault of ours: what went wrong is in the log, not here."""
    return answer(500, "internal", "something went wrong here; it is in the gateway's log")


def of_validation(error: RequestValidationError) -> Response:
    """What was wrong with which field."""
    faults = [
        {"field": _printable(".".join(str(part) for part in fault["loc"][1:]) or "body"), "problem": str(fault["msg"])}
        for fault in error.errors()
    ][:MOST_DETAILS]
    first = faults[0] if faults else {"field": "body", "problem": "cannot be read"}
    return answer(400, "invalid_request", f"{first['field']}: {first['problem']}", faults)


def of_http(request: Request, error: HTTPException) -> Response:
    """A route's or the framework's own refusal."""
    path = _printable(request.url.path[:200])
    allow = ", ".join(sorted(_methods(request))) if error.status_code == 405 else ""
    match error.status_code:
        case 404:
            message = f"there is nothing at {path}; /openapi.json says what there is"
        case 405:
            message = f"{request.method} is not possible on {path}; possible: {allow}"
        case _:
            message = str(error.detail)
    type_ = _TYPES.get(error.status_code, "invalid_request")
    return (
        answer(error.status_code, type_, message, allow=allow) if allow else answer(error.status_code, type_, message)
    )


def _methods(request: Request) -> set[str]:
    """Every method that some route has for this path: the framework names the first route's only."""
    return {
        method.upper()
        for template, operations in request.app.openapi()["paths"].items()
        if re.fullmatch(_IN_BRACES.sub("[^/]+", template), request.url.path)
        for method in operations
    }


def _seconds(wait_s: float) -> str:
    return str(max(1, math.ceil(wait_s)))


def _printable(text: str) -> str:
    """Text that UTF-8 can carry."""
    return text.encode("utf-8", "replace").decode()

"""Error answers: one body shape on every status, and the status of each exception.

Called by the edge and by the application's exception handlers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from workers.domain.errors import TransientFailure
from workers.gateway.http.services import COMPATIBLE
from workers.gateway.refusals import Refused, TooMany, Unauthorized

LONGEST_MESSAGE: Final = 8192
"""Characters; the compatible API's own limit."""


class ErrorView(BaseModel):
    """Why a request was not served; the same shape on every status."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """A stable code."""
    message: str
    """One line for people: what was wrong, and what to do."""
    details: tuple[Mapping[str, str], ...] = ()
    """What was wrong with which field."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What an API permits in an error."""

    most_details: int
    """Faults named of one request."""
    statuses: Mapping[int, int]
    """Statuses that the API does not have, and the one that is sent instead."""


_NATIVE: Final = _Dialect(20, {})
_COMPATIBLE: Final = _Dialect(1, {409: 400, 413: 400, 415: 400, 503: 500})
"""The published contract has 400, 401, 403, 404, 429 and 500."""

_IN_BRACES: Final = re.compile(r"\{\w+\}")

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
}


def answer(
    path: str, status: int, type_: str, message: str, details: Sequence[Mapping[str, str]] = (), **headers: str
) -> Response:
    """An error answer as the API that ``path`` belongs to permits it."""
    dialect = _COMPATIBLE if path.startswith(f"{COMPATIBLE}/") else _NATIVE
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {
        "type": type_,
        "message": _printable(message[:LONGEST_MESSAGE]),
        "details": list(details)[: dialect.most_details],
    }
    return JSONResponse(body, status_code=dialect.statuses.get(status, status), headers=named)


def of_error(error: Refused | TransientFailure, path: str) -> Response:
    """The answer to a refusal or a temporary failure."""
    match error:
        case TooMany():
            return answer(path, 429, error.reason, error.message, retry_after=_seconds(error.retry_after_s))
        case Unauthorized():
            return answer(path, 401, error.reason, error.message, www_authenticate="Bearer")
        case Refused():
            details = [{name: _printable(value) for name, value in error.details.items()}] if error.details else []
            return answer(path, error.status, error.reason, error.message, details)
        case TransientFailure():
            return answer(path, 503, error.reason, error.message, retry_after=_seconds(error.retry_after_s))


def internal(path: str) -> Response:
    """The answer to a bug: the log has the details, the client does not."""
    return answer(path, 500, "internal", "internal error; the gateway's log has the details")


def of_validation(error: RequestValidationError, path: str) -> Response:
    """What was wrong with which field."""
    faults = [
        {"field": _printable(".".join(str(part) for part in fault["loc"][1:]) or "body"), "problem": str(fault["msg"])}
        for fault in error.errors()
    ]
    first = faults[0] if faults else {"field": "body", "problem": "cannot be read"}
    return answer(path, 400, "invalid_request", f"{first['field']}: {first['problem']}", faults)


def of_http(request: Request, error: HTTPException) -> Response:
    """An error of the framework or of a route."""
    path = request.url.path
    named = _printable(path[:200])
    allow = ", ".join(sorted(_methods(request))) if error.status_code == 405 else ""
    match error.status_code:
        case 404:
            message = f"{named} does not exist; /openapi.json lists all paths"
        case 405:
            message = f"{named} does not support {request.method}; it supports: {allow}"
        case _:
            message = str(error.detail)
    type_ = _TYPES.get(error.status_code, "invalid_request")
    headers = {"allow": allow} if allow else {}
    return answer(path, error.status_code, type_, message, (), **headers)


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

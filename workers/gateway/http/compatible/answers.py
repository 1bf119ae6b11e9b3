"""What the OpenAPI document says of every answer of this face that is no success."""

from typing import Any, Final

from workers.gateway.http.compatible.bodies import CompatibleError

_RETRY: Final = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}

ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": CompatibleError, "description": "Invalid or inconsistent parameters."},
    401: {"model": CompatibleError, "description": "No bearer token, or a wrong one."},
    403: {"model": CompatibleError, "description": "The caller may not."},
    429: {"model": CompatibleError, "description": "Too many requests in a minute.", "headers": _RETRY},
    500: {"model": CompatibleError, "description": "A fault of ours, or the log is away."},
}

MISSING: Final[dict[int | str, dict[str, Any]]] = {
    **ANSWERS,
    404: {"model": CompatibleError, "description": "There is no such execution."},
}

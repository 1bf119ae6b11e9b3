"""The OpenAPI 3.1 document: the framework's, made to say what the edge really does.

Called once by ``app``. The token, the one error body, and no 422, because a wrong request is answered 400 here.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from workers.gateway.http.edge import HEALTH

_ERROR: Final = {"$ref": "#/components/schemas/ErrorView"}
_SCHEME: Final = "bearer"


def document_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What ``app.openapi`` answers."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    return document


def _made(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, openapi_version="3.1.0", routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "The token that `douse up` prints."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    document["security"] = [{_SCHEME: []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "Why it was not served; the same body on every status.",
                "content": {"application/json": {"schema": _ERROR}},
            }
            if path == HEALTH:
                operation["security"] = [{_SCHEME: []}, {}]
    return document

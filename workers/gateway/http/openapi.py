"""The OpenAPI 3.1 document: the framework's, made to say what the edge really does.

Called by ``app`` when somebody asks for it. Adds the token, the one error body, and the descriptions that stand as
docstrings under the fields of views and bodies; takes away 422, because a wrong request is answered 400 here.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.alias_generators import to_camel

from workers.gateway.http.compatible import bodies as compatible
from workers.gateway.http.edge import HEALTH
from workers.gateway.http.native import bodies, lists
from workers.gateway.http.services import COMPATIBLE
from workers.gateway.views import catalogue, events, executions, fleet, refusals, targets

_VIEWS: Final = (catalogue, events, executions, fleet, refusals, targets)
_SCHEME: Final = "bearer"
_ERROR: Final = {
    "description": "Why it was not served; the same body on every status.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorView"}}},
}


_RATE: Final = {
    "X-RateLimit-Limit": {"description": "Requests a minute that a caller may make.", "schema": {"type": "integer"}}
}


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
    document["components"]["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "The token that `douse up` prints."}
    }
    document["security"] = [{_SCHEME: []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if not path.startswith(f"{COMPATIBLE}/"):
                operation["responses"]["default"] = _ERROR
            for answered in operation["responses"].values():
                answered["headers"] = {**answered.get("headers", {}), **_RATE}
            if path == HEALTH:
                operation["security"] = [{_SCHEME: []}, {}]
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for module in (*_VIEWS, bodies, lists, compatible):
        for owner, field, description in _descriptions(module):
            for name in (each for each in schemas if each == owner or each.startswith(f"{owner}_")):
                properties = schemas[name]["properties"]
                properties.get(field, properties.get(to_camel(field), {}))["description"] = description
    return document


def _descriptions(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """Class, field and docstring of every described field, as they stand in the source."""
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(described))):
                    yield node.name, name, " ".join(described.split())

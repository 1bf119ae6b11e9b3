"""The OpenAPI document: complete, resolvable, and true about what the edge does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.gateway import FakeGateway


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = FakeGateway().get("/openapi.json").json()
    return found


def test_it_is_openapi_3_1_and_every_operation_of_both_apis_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {path.split("/")[1] for path in document["paths"]} == {"api", "secure"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "422" not in operation["responses"], path
            for answer in operation["responses"].values():
                assert all(content["schema"] for content in answer["content"].values()), path
                assert answer["content"], path
                assert "X-RateLimit-Limit" in answer["headers"], path


def test_the_compatible_api_has_the_published_operations_and_statuses(document: dict[str, Any]) -> None:
    root = "/secure/response-actions/v1alpha1"
    statuses = {
        f"{method} {path.removeprefix(root)}": set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path.startswith(root) and not path.endswith("/acquired-file")
    }
    common = {"400", "401", "403", "429", "500"}
    assert statuses == {
        "get /actions": {"200", *common},
        "post /action-executions": {"201", *common},
        "get /action-executions": {"200", *common},
        "get /action-executions/{execution_id}": {"200", "404", *common},
        "delete /action-executions/{execution_id}": {"200", "404", *common},
    }
    retry = document["paths"][f"{root}/action-executions"]["post"]["responses"]["429"]["headers"]
    assert "Retry-After" in retry


def test_every_field_of_every_model_is_described(document: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert bare == []


def test_every_reference_can_be_resolved(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    missing = {ref for ref in _references(document) if ref.removeprefix("#/components/schemas/") not in schemas}
    assert missing == set()


def test_every_operation_but_health_requires_the_token(document: dict[str, Any]) -> None:
    needed = {
        f"{method} {path}": operation["security"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert needed.pop("get /api/v1/health") == [{"bearer": []}, {}]
    assert all(security == [{"bearer": []}] for security in needed.values())
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)

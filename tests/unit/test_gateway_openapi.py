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


def test_it_is_openapi_3_1_and_every_operation_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        assert path.startswith("/api/v1/")
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "422" not in operation["responses"], path
            assert operation["responses"]["default"]["content"]["application/json"]["schema"], path


def test_every_field_of_every_model_is_described(document: dict[str, Any]) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert bare == []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    missing = {ref for ref in _references(document) if ref.removeprefix("#/components/schemas/") not in schemas}
    assert missing == set()


def test_only_health_may_be_asked_without_a_token(document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}]
    free = [
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if {} in operation.get("security", [])
    ]
    assert free == ["/api/v1/health"]


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)

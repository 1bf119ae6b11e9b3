"""Every request is authenticated, limited and bounded, and every error has one body shape."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.fakes.gateway import TOKEN, FakeGateway
from workers.domain.trust.audit import GENESIS
from workers.gateway.http.edge import LARGEST_BODY
from workers.gateway.permissions import ADMIN
from workers.gateway.principals import RateLimit, Tokens
from workers.gateway.refusals import TooMany, Unauthorized

ROUTES = [
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/events"),
    ("GET", "/api/v1/events/x"),
    ("GET", "/api/v1/executions"),
    ("POST", "/api/v1/executions"),
    ("GET", "/api/v1/executions/x"),
    ("DELETE", "/api/v1/executions/x"),
    ("POST", "/api/v1/executions/x/cancel"),
    ("GET", "/api/v1/contained"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/nodes/x"),
    ("GET", "/api/v1/actions"),
    ("GET", "/api/v1/actions/x"),
    ("POST", "/api/v1/health"),
    ("GET", "/secure/response-actions/v1alpha1/actions"),
    ("GET", "/secure/response-actions/v1alpha1/action-executions"),
    ("POST", "/secure/response-actions/v1alpha1/action-executions"),
    ("GET", "/secure/response-actions/v1alpha1/action-executions/x"),
    ("DELETE", "/secure/response-actions/v1alpha1/action-executions/x"),
    ("GET", "/nothing/here"),
]


def assert_error(answer: httpx.Response, status: int, type_: str = "") -> None:
    """Assert that it is an error of the common shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"type", "message", "details"}
    assert body["type"] == type_ or (not type_ and body["type"])
    assert body["message"]
    assert isinstance(body["details"], list)
    assert answer.headers["x-ratelimit-limit"].isdigit()


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_token_nothing_is_answered_and_nothing_written(method: str, path: str) -> None:
    gateway = FakeGateway()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": ""}):
        answer = gateway.send(method, path, headers=headers, content=b"{not json")
        assert_error(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert gateway.written == []


def test_health_and_the_openapi_document_need_no_token_but_refuse_a_wrong_one() -> None:
    gateway = FakeGateway()
    assert gateway.get("/api/v1/health", headers={}).json() == {"live": True, "ready": True}
    assert gateway.get("/openapi.json", headers={}).status_code == 200
    assert_error(gateway.get("/api/v1/health", headers={"Authorization": "Bearer wrong"}), 401)


def test_two_authorization_headers_are_none() -> None:
    gateway = FakeGateway()
    twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
    assert_error(gateway.get("/api/v1/nodes", headers=twice), 401)


@given(st.binary(max_size=700))
def test_only_the_right_token_is_accepted(header: bytes) -> None:
    tokens = Tokens({"00" * 32: ADMIN})
    with pytest.raises(Unauthorized):
        tokens.principal(header.decode("latin-1"))


def test_of_a_hundred_requests_at_once_against_a_limit_of_fifty_exactly_fifty_pass() -> None:
    gateway = FakeGateway(a_minute=50)
    answers = asyncio.run(gateway.send_many([("GET", "/api/v1/nodes", {})] * 100))
    assert sorted(answer.status_code for answer in answers) == [200] * 50 + [429] * 50
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_error(refused, 429, "too_many_requests")
    assert refused.headers["retry-after"] == "60"
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"50"}


@given(st.lists(st.floats(0, 50), max_size=60), st.integers(1, 5))
def test_in_no_minute_do_more_than_the_limit_pass(pauses: list[float], limit: int) -> None:
    clock = FakeClock()
    rate = RateLimit(limit, clock)
    passed: list[int] = []
    for pause in pauses:
        clock.advance(pause)
        with suppress(TooMany):
            rate.take(ADMIN)
            passed.append(clock.monotonic_ns())
    for first, beyond in zip(passed, passed[limit:], strict=False):
        assert beyond - first >= 60_000_000_000


def test_callers_without_a_token_do_not_use_up_a_principals_limit() -> None:
    gateway = FakeGateway(a_minute=1)
    for _ in range(5):
        gateway.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"})
    assert gateway.get("/api/v1/nodes").status_code == 200


def test_refused_callers_are_counted_and_become_one_audit_record() -> None:
    gateway = FakeGateway(a_minute=1)
    for _ in range(3):
        gateway.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"})
    gateway.get("/api/v1/nodes")
    gateway.get("/api/v1/nodes")
    assert gateway.audit() == []
    gateway.trail.write_refusals()
    gateway.trail.write_refusals()
    (record,) = gateway.audit()
    assert (record.kind, record.record_no, record.previous) == ("refused", 0, GENESIS)
    assert record.detail == {"unauthorized": 3, "too_many_requests": 1}
    assert gateway.telemetry.counts["gateway.refused"] == 4


def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_stated_or_not() -> None:
    gateway = FakeGateway()
    assert_error(gateway.post("/api/v1/events", content=b" " * (LARGEST_BODY + 1)), 413, "too_large")

    async def dripping() -> Any:
        for _ in range(9):
            yield b" " * (1 << 20)

    assert_error(gateway.post("/api/v1/events", content=dripping()), 413, "too_large")
    assert gateway.written == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/executions/", 404),
        ("PATCH", "/api/v1/executions", 405),
        ("PUT", "/api/v1/executions/x", 405),
        ("BREW", "/api/v1/nodes", 405),
        ("GET", "/api/v1/executions?limit=0", 400),
        ("GET", "/api/v1/executions?limit=many", 400),
        ("GET", "/api/v1/executions?outcome=MAYBE", 400),
        ("GET", "/api/v1/executions?cursor=nonsense", 400),
        ("GET", "/api/v1/executions?from=yesterday", 400),
        ("GET", "/api/v1/executions?since=24x", 400),
        ("GET", "/api/v1/events?cursor=nonsense", 400),
        ("GET", "/api/v1/nodes/nobody", 404),
        ("GET", "/api/v1/actions/dance", 404),
    ],
)
def test_every_error_has_the_one_body_shape(method: str, path: str, status: int) -> None:
    assert_error(FakeGateway().send(method, path), status)


def test_405_names_every_method_that_is_possible() -> None:
    answer = FakeGateway().send("PUT", "/api/v1/events")
    assert answer.headers["allow"] == "GET, POST"


def test_a_bug_is_a_500_without_details_and_is_logged_with_its_traceback() -> None:
    gateway = FakeGateway()
    gateway.history.nodes = _broken  # type: ignore[method-assign,assignment]
    answer = gateway.get("/api/v1/nodes")
    assert_error(answer, 500, "internal")
    assert "secret" not in answer.text
    ((level, event, fields),) = gateway.telemetry.lines
    assert (level, event) == ("error", "gateway_internal")
    assert "ZeroDivisionError: a secret" in str(fields["error"])


def test_a_client_that_disconnects_before_its_body_arrived_is_ignored() -> None:
    gateway = FakeGateway()
    sent: list[Any] = []

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/events", "headers": headers}
    asyncio.run(gateway.app(scope, gone, send))
    assert sent == []
    assert gateway.telemetry.lines == []


def _broken() -> Any:
    raise ZeroDivisionError("a secret")

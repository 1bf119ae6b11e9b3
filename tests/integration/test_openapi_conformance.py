"""Every operation of both APIs is checked against the OpenAPI document, with requests generated from it alone.

The real application on fakes, in this process. What is asserted: no internal error, and no status, header or body that
the document does not have. Set DOUSE_CONFORMANCE for more examples.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.fakes.gateway import TOKEN, FakeGateway
from tests.stories import Story, heartbeat
from workers.domain.target import FileTarget

pytestmark = pytest.mark.slow

ROOT = "/secure/response-actions/v1alpha1/action-executions"
DONE = Story(1, action="file_quarantine", target=FileTarget(b"/tmp/dropper", START_NS), caller_id="case-7")
EXAMPLES = int(os.environ.get("DOUSE_CONFORMANCE", "8"))
"""Of each operation and kind: 40 kinds in 20 s on two cores."""

SUBMISSIONS: list[dict[str, Any]] = [
    {"actionType": "KILL_PROCESS", "parameters": {"host.id": "web-1", "process.id": "4711", "startTime": "-1"}},
    {"actionType": "FILE_QUARANTINE", "callerId": "c", "parameters": {"host.id": "web-1", "path.absolute": "/tmp/x"}},
]
ASKED = {"action": "kill_process", "host": "web-1", "target": {"process": {"pid": 4711}}, "reason": "it looked wrong"}
OF_THE_DOCUMENT = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
OPERATIONS = [
    (method, path)
    for path, operations in FakeGateway().get("/openapi.json").json()["paths"].items()
    for method in operations
]


class Conforming:
    """One gateway with something in its history, and its document."""

    def __init__(self) -> None:
        self.gateway = FakeGateway()
        self.gateway.history.put(*DONE.whole(effect_holds=True))
        self.gateway.history.put(*(result for number in range(2, 5) for result in Story(number).whole()))
        with self.gateway.history.begin() as tx:
            tx.put_node(heartbeat(1), payload=FakeCodec().encode(heartbeat(1)), verified=True, folded_at_ns=START_NS)
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", self.gateway.app)
        names = ("not_a_server_error", *OF_THE_DOCUMENT)
        self.checks: list[Any] = [check for check in CHECKS.get_all() if check.__name__ in names]
        assert len(self.checks) == len(names)

    def statuses(self, method: str, path: str, mode: GenerationMode, **fixed: Any) -> Counter[int]:
        """How often each status came, once every answer conformed."""
        counts: Counter[int] = Counter()
        operation = self.schema[path][method.upper()]

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=[*HealthCheck]
        )
        @given(operation.as_strategy(generation_mode=mode, **fixed))
        def conform(case: schemathesis.Case[Any]) -> None:
            answer = case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=self.checks)
            counts[answer.status_code] += 1

        conform()
        return counts


@pytest.fixture(scope="module")
def conforming() -> Conforming:
    return Conforming()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_valid_requests_are_answered_as_documented(conforming: Conforming, method: str, path: str) -> None:
    assert conforming.statuses(method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[1] != "/api/v1/health"])
def test_invalid_requests_are_answered_as_documented(conforming: Conforming, method: str, path: str) -> None:
    assert conforming.statuses(method, path, GenerationMode.NEGATIVE)


@pytest.mark.parametrize(
    ("method", "path", "fixed", "status"),
    [
        *(("post", ROOT, {"body": body}, 201) for body in SUBMISSIONS),
        ("get", f"{ROOT}/{{execution_id}}", {"path_parameters": {"execution_id": DONE.id}}, 200),
        ("delete", f"{ROOT}/{{execution_id}}", {"path_parameters": {"execution_id": DONE.id}}, 200),
        ("post", "/api/v1/executions", {"body": ASKED}, 201),
        ("delete", "/api/v1/executions/{execution_id}", {"path_parameters": {"execution_id": DONE.id}}, 201),
        ("get", "/api/v1/executions/{execution_id}", {"path_parameters": {"execution_id": DONE.id}}, 200),
    ],
)
def test_successes_are_answered_as_documented(
    conforming: Conforming, method: str, path: str, fixed: dict[str, Any], status: int
) -> None:
    assert status in conforming.statuses(method, path, GenerationMode.POSITIVE, **fixed)

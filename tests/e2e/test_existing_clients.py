"""A client of the published API, written as one would be, against a running `douse up`.

It knows that API and nothing of Douse: its own HTTP, integers as text, `context` as JSON, polling until a status ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_demo import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WAIT_S = 60.0
EXECUTION = {"id", "actionType", "executionContext", "parameters", "status", "createdAt", "updatedAt"}


@dataclass
class PublishedClient:
    """A client as it was written years ago from the vendor's documentation."""

    base_url: str
    token: str

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """Status and decoded body."""
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        request = urllib.request.Request(
            f"{self.base_url}/secure/response-actions/v1alpha1{path}{asked}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.headers["X-RateLimit-Limit"].isdigit()
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def submit(self, action_type: str, caller_id: str, **parameters: str) -> dict[str, Any]:
        """Ask for an action; all parameters as text, as the generated clients send them."""
        body = {
            "actionType": action_type,
            "callerId": caller_id,
            "parameters": {name.replace("__", "."): value for name, value in parameters.items()},
        }
        status, execution = self.call("POST", "/action-executions", body)
        assert status == 201, execution
        assert set(execution) >= EXECUTION
        assert execution["parameters"] == body["parameters"]
        return self.ended(execution["id"])

    def ended(self, execution_id: str) -> dict[str, Any]:
        """Poll until it has ended."""
        deadline = time.monotonic() + WAIT_S
        while True:
            status, execution = self.call("GET", f"/action-executions/{execution_id}")
            assert status == 200, execution
            if execution["status"] in ("COMPLETED", "FAILED"):
                return self.sound(execution)
            assert execution["status"] in ("ENQUEUED", "IN_PROGRESS")
            assert time.monotonic() < deadline, execution
            time.sleep(0.05)

    def sound(self, execution: dict[str, Any]) -> dict[str, Any]:
        """As a generated client's model would check it."""
        created, updated = (datetime.fromisoformat(execution[name]) for name in ("createdAt", "updatedAt"))
        assert created <= updated
        assert all(isinstance(value, str) and len(value) <= 1024 for value in execution["executionContext"].values())
        for values in (execution["parameters"], execution.get("outputs", {})):
            assert all(
                isinstance(value, bool) or (isinstance(value, str) and len(value) <= 512) for value in values.values()
            )
        failure = execution.get("failure")
        assert (failure is None) == (execution["status"] != "FAILED")
        if failure is not None:
            assert len(failure["failureReason"]) <= 64
            assert len(failure["logMessage"]) <= 1024
        return execution


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("clients") / "data")
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def client(up: Up) -> PublishedClient:
    return PublishedClient(str(up.client.base_url).rstrip("/"), up.client.headers["Authorization"].split()[1])


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A harmless process, our own child."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_finds_the_host_s_actions_and_kills_a_process(up: Up, client: PublishedClient) -> None:
    context = json.dumps({"host.id": up.node_id})
    status, listed = client.call("GET", "/actions", context=context)
    assert status == 200
    offered = {action["type"]: action for action in listed["data"]}
    assert [p["name"] for p in offered["KILL_PROCESS"]["parameters"] if p["required"]] == [
        "host.id",
        "process.id",
        "startTime",
    ]
    assert not offered["KILL_PROCESS"]["isUndoable"]
    with sleeper() as victim:
        done = client.submit("KILL_PROCESS", "kill-1", host__id=up.node_id, process__id=str(victim.pid), startTime="-1")
        assert victim.wait(WAIT_S) == -9
    assert done["status"] == "COMPLETED", done
    assert done["outputs"]["pid"] == str(victim.pid)
    assert done["outputs"]["identity"] == "pid_at_intake"
    assert int(done["outputs"]["started_at"]) > 0
    status, found = client.call("GET", "/action-executions", callerId="kill-1")
    assert (status, [row["id"] for row in found["data"]]) == (200, [done["id"]])


def test_it_quarantines_a_file_and_undoes_it_byte_for_byte(up: Up, client: PublishedClient, tmp_path: Path) -> None:
    path = tmp_path / "dropper"
    content = os.urandom(10_000)
    path.write_bytes(content)
    done = client.submit("FILE_QUARANTINE", "file-1", host__id=up.node_id, path__absolute=str(path))
    assert done["status"] == "COMPLETED", done
    assert not path.exists()
    assert Path(done["outputs"]["quarantined_file_path"]).is_file()
    status, undo = client.call("DELETE", f"/action-executions/{done['id']}", {"callerId": "undo-1"})
    assert status == 200, undo
    assert (undo["actionType"], undo["actionExecutionIdBeingUndone"]) == ("FILE_UNQUARANTINE", done["id"])
    assert undo["callerId"] == "undo-1"
    assert undo["parameters"]["quarantined_file_path"] == done["outputs"]["quarantined_file_path"]
    assert undo["parameters"]["path.absolute"] == str(path)
    assert client.ended(undo["id"])["status"] == "COMPLETED"
    assert path.read_bytes() == content
    newest = client.call("GET", "/action-executions", limit=2)[1]["data"]
    assert [row["id"] for row in newest] == [undo["id"], done["id"]]


def test_what_fails_has_its_reason_and_what_is_wrong_touches_nothing(
    up: Up, client: PublishedClient, tmp_path: Path
) -> None:
    failed = client.submit("FILE_QUARANTINE", "dir-1", host__id=up.node_id, path__absolute=str(tmp_path))
    assert failed["status"] == "FAILED"
    assert failed["failure"]["failureReason"] == "file_quarantine_error_not_regular"
    path = tmp_path / "kept"
    path.write_bytes(b"kept")
    parameters = {"host.id": up.node_id, "path.absolute": str(path)}
    for action_type, more, status in (
        ("FILE_UNQUARANTINE", {"quarantined_file_path": "/v"}, 400),
        ("FILE_QUARANTINE", {"container.id": "a-name"}, 400),
        ("FILE_QUARANTINE", {"unknown": "1"}, 400),
    ):
        found, refused = client.call(
            "POST", "/action-executions", {"actionType": action_type, "parameters": {**parameters, **more}}
        )
        assert (found, set(refused)) == (status, {"type", "message", "details"})
    assert path.read_bytes() == b"kept"
    assert client.call("GET", "/action-executions/none")[0] == 404
    assert (
        client.call("DELETE", f"/action-executions/{failed['id']}", {})[0] == 200
    )  # the undo then fails with the reason
    stranger = PublishedClient(client.base_url, "wrong")
    assert stranger.call("GET", "/actions")[0] == 401

"""Downloading what was acquired: whole and verified or not at all, audited first, and only ever the very object."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.fakes.gateway import FakeGateway
from tests.fakes.object_store import FakeStoredObject
from tests.fakes.telemetry import FakeTelemetry
from tests.stories import OTHER_NODE, Story
from workers.actions.base import Permission
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome, Values
from workers.domain.targets.custody import object_key
from workers.gateway.acquired import Download
from workers.gateway.http.services import COMPATIBLE
from workers.gateway.permissions import Access, right
from workers.gateway.principals import Principal

CONTENT = os.urandom(600_000)


def acquired(
    gateway: FakeGateway,
    content: bytes = CONTENT,
    *,
    number: int = 1,
    action: str = "file_acquire",
    **more: str | int,
) -> Story:
    """An execution that acquired `content`; `more` are outputs that differ."""
    story = Story(number, action=action)
    key = object_key(story.node_id, story.id)
    outputs: Values = {
        "object_key": key,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "path": "/tmp/x",
        **more,
    }
    gateway.history.put(story.requested(), story.dispatched(), story.claimed(), story.ended(outputs=outputs))
    gateway.objects.objects[key] = content
    return story


def path(story: Story, prefix: str = "/api/v1/executions") -> str:
    return f"{prefix}/{story.id}/acquired-file"


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_a_download_is_the_content_with_its_digest_but_not_its_own_file_name(
    gateway: FakeGateway, content: bytes
) -> None:
    story = acquired(gateway, content)
    answer = gateway.get(path(story))
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["x-checksum-sha256"] == hashlib.sha256(content).hexdigest()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-disposition"] == f'attachment; filename="{story.id}"'
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")


@pytest.mark.parametrize(
    ("action", "ending"), [("file_acquire", ""), ("snapshot_process", ".json"), ("get_logs", ".log"), ("newer", "")]
)
@pytest.mark.parametrize("prefix", ["/api/v1/executions", f"{COMPATIBLE}/action-executions"])
def test_logs_and_snapshots_are_downloaded_the_same_way_under_a_name_from_the_execution(
    gateway: FakeGateway, prefix: str, action: str, ending: str
) -> None:
    story = acquired(gateway, action=action)
    answer = gateway.get(path(story, prefix))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-disposition"] == f'attachment; filename="{story.id}{ending}"'


def test_the_compatible_api_serves_the_same(gateway: FakeGateway) -> None:
    story = acquired(gateway)
    answer = gateway.get(path(story, f"{COMPATIBLE}/action-executions"))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/octet-stream"
    missing = gateway.get(path(Story(99), f"{COMPATIBLE}/action-executions"))
    assert missing.status_code == 404
    assert set(missing.json()) == {"type", "message", "details"}


@pytest.mark.parametrize("prefix", ["/api/v1/executions", f"{COMPATIBLE}/action-executions"])
def test_a_download_needs_the_right_to_read_gathered_data(prefix: str) -> None:
    contain = {right(Permission.CONTAINMENT, access) for access in Access}
    order = {right(Permission.GATHERING, Access.EXEC)}
    gateway = FakeGateway(person=Principal("eve", frozenset(contain | order)))
    assert gateway.get(path(acquired(gateway), prefix)).status_code == 403
    assert gateway.audit() == []
    gateway = FakeGateway(person=Principal("ada", frozenset({right(Permission.GATHERING, Access.READ)})))
    assert gateway.get(path(acquired(gateway), prefix)).status_code == 200


def test_a_download_is_audited_before_the_first_byte_is_sent(gateway: FakeGateway) -> None:
    story = acquired(gateway)
    gateway.objects.fail["open"] = [TransientFailure("away", code="store_unavailable")]
    assert gateway.get(path(story)).status_code == 503
    (record,) = [each for each in gateway.audit() if each.kind == "downloaded"]
    assert (record.actor, record.execution_id) == ("admin", story.id)
    assert record.detail["object_key"] == object_key(story.node_id, story.id)


def test_another_object_that_a_node_names_is_never_opened(gateway: FakeGateway) -> None:
    theirs = object_key(OTHER_NODE, Story(7).id)
    gateway.objects.objects[theirs] = b"a secret of another node"
    story = acquired(gateway, object_key=theirs)
    assert gateway.get(path(story)).content == CONTENT


@pytest.mark.parametrize("wrong", [b"", CONTENT + b"x"])
def test_an_object_of_another_size_is_refused(gateway: FakeGateway, wrong: bytes) -> None:
    story = acquired(gateway)
    gateway.objects.objects[object_key(story.node_id, story.id)] = wrong
    answer = gateway.get(path(story))
    assert (answer.status_code, answer.json()["type"]) == (409, "object_differs")


def test_content_that_differs_from_the_signed_digest_is_never_complete() -> None:
    for content in (b"short", CONTENT):
        forged = FakeStoredObject(bytes(len(content)))
        telemetry = FakeTelemetry()
        download = Download("id", "id", len(content), hashlib.sha256(content).hexdigest(), forged, telemetry)
        got = bytearray()
        with pytest.raises(TransientFailure):
            list(map(got.extend, download.chunks()))
        assert len(got) < len(content)
        download.close()
        assert forged.closed


def test_a_store_that_breaks_off_never_completes_a_download() -> None:
    torn = FakeStoredObject(CONTENT[:300_000], broken=TransientFailure(code="store_unavailable"))
    download = Download("id", "id", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), torn, FakeTelemetry())
    with pytest.raises(TransientFailure):
        list(download.chunks())


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED])
def test_what_acquired_nothing_has_no_file(gateway: FakeGateway, outcome: Outcome) -> None:
    story = Story(2, action="file_acquire")
    gateway.history.put(*story.whole(outcome))
    answer = gateway.get(path(story))
    assert (answer.status_code, answer.json()["type"]) == (404, "no_acquired_file")
    assert [each for each in gateway.audit() if each.kind == "downloaded"] == []


def test_other_actions_and_unknown_executions_have_no_file(gateway: FakeGateway) -> None:
    story = Story(3)
    gateway.history.put(*story.whole())
    assert gateway.get(path(story)).json()["type"] == "no_acquired_file"
    assert gateway.get(path(Story(4))).json()["type"] == "not_found"
    assert gateway.get("/api/v1/executions/..%2f..%2fetc/acquired-file").status_code == 404


def test_a_missing_object_is_404_object_gone(gateway: FakeGateway) -> None:
    story = acquired(gateway)
    gateway.objects.objects.clear()
    answer = gateway.get(path(story))
    assert (answer.status_code, answer.json()["type"]) == (404, "object_gone")


@pytest.mark.parametrize("error", [PermanentFailure(code="store_refused"), TransientFailure(code="store_unavailable")])
def test_an_unavailable_store_is_503(gateway: FakeGateway, error: PermanentFailure | TransientFailure) -> None:
    story = acquired(gateway)
    gateway.objects.fail["open"] = [error]
    answer = gateway.get(path(story))
    assert (answer.status_code, answer.json()["type"]) == (503, error.reason)


def test_a_gateway_without_a_store_answers_503_no_store() -> None:
    gateway = FakeGateway(stores=False)
    answer = gateway.get(path(acquired(gateway)))
    assert (answer.status_code, answer.json()["type"]) == (503, "no_store")


def test_without_a_token_there_is_nothing(gateway: FakeGateway) -> None:
    story = acquired(gateway)
    assert gateway.get(path(story), headers={}).status_code == 401

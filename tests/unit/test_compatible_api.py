"""The compatible API over HTTP: what existing clients send is accepted, what they read is as published."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.fakes.gateway import TOKEN, FakeGateway
from tests.stories import NODE, Story, heartbeat
from tests.unit.test_gateway_edge import assert_error
from workers.actions import CATALOGUE
from workers.actions.base import Permission
from workers.domain.event import ProcessRef
from workers.domain.ids import NodeId
from workers.domain.outcome import Outcome, Values
from workers.domain.request import ActorKind, Verb
from workers.domain.target import FileTarget, NetworkTarget, ProcessTarget
from workers.gateway.permissions import Access, right
from workers.gateway.principals import Principal

ROOT = "/secure/response-actions/v1alpha1"
PATH = f"{ROOT}/action-executions"
KILL = {"host.id": "web-1", "process.id": "4711", "startTime": "-1"}
QUARANTINE = {"host.id": "web-1", "path.absolute": "/tmp/dropper"}


def submitted(gateway: FakeGateway, action: str, parameters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The execution that a POST answers."""
    answer = gateway.post(PATH, json={"actionType": action, "parameters": parameters, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: Any, status: int, field: str = "") -> dict[str, Any]:
    """It is an error as published, about this field."""
    assert_error(answer, status)
    body: dict[str, Any] = answer.json()
    assert len(body["type"]) <= 512
    assert len(body["message"]) <= 8192
    assert len(body["details"]) <= 1
    if field:
        assert body["details"][0]["field"] == field, answer.text
    return body


@pytest.mark.parametrize("folds", [True, False])
def test_a_submitted_action_is_201_at_once_with_its_parameters_as_they_came(folds: bool) -> None:
    gateway = FakeGateway(folds=folds)
    shown = submitted(gateway, "KILL_PROCESS", KILL, callerId="case-7")
    assert shown == {
        "id": shown["id"],
        "callerId": "case-7",
        "actionType": "KILL_PROCESS",
        "responderType": "HOST",
        "executionContext": {"host.id": "web-1", "host.hostName": "web-1"},
        "parameters": KILL,
        "status": "ENQUEUED",
        "createdAt": "2030-03-17T17:46:40.000000Z",
        "updatedAt": "2030-03-17T17:46:40.000000Z",
    }
    (request,) = gateway.requests()
    assert (request.verb, request.host, request.caller_id) == (Verb.EXECUTE, "web-1", "case-7")
    assert request.actor.kind is ActorKind.PERSON
    assert request.steps[0].target == ProcessTarget((ProcessRef(4711),), START_NS)
    assert dict(request.echo) == KILL
    if folds:
        assert gateway.get(f"{PATH}/{shown['id']}").json() == shown
        assert gateway.get(PATH, params={"callerId": "case-7"}).json() == {"data": [shown]}


@pytest.mark.parametrize("as_type", [int, str])
def test_a_start_time_keeps_its_last_nanosecond(as_type: type) -> None:
    gateway = FakeGateway()
    exact = 1_783_198_004_170_000_001
    sent = {**KILL, "process.id": as_type(4711), "startTime": as_type(exact)}
    assert submitted(gateway, "KILL_PROCESS", sent)["parameters"] == sent
    assert gateway.requests()[0].steps[0].target == ProcessTarget((ProcessRef(4711, exact),), START_NS)


def test_what_is_left_out_may_be_null_empty_or_called_host() -> None:
    for container in (None, "", "host"):
        gateway = FakeGateway()
        submitted(gateway, "FILE_QUARANTINE", {**QUARANTINE, "container.id": container}, callerId=None)
        assert gateway.requests()[0].steps[0].target == FileTarget(b"/tmp/dropper", START_NS)


def test_a_network_is_the_host_s_or_a_container_s() -> None:
    for container in (None, "", "host"):
        gateway = FakeGateway()
        submitted(gateway, "ISOLATE_NETWORK", {"host.id": "web-1", "container.id": container}, callerId=None)
        assert gateway.requests()[0].steps[0].target == NetworkTarget(START_NS)
    gateway = FakeGateway()
    sent = {"host.id": "web-1", "container.id": "A" * 12}
    shown = submitted(gateway, "ISOLATE_NETWORK", sent)
    assert shown["parameters"] == sent
    assert gateway.requests()[0].steps[0].target == NetworkTarget(START_NS, "a" * 12)


def test_a_file_in_a_container_and_the_actions_own_parameters() -> None:
    gateway = FakeGateway()
    sent = {**QUARANTINE, "container.id": "A" * 12, "allow_immutable": "true", "force_hardlinked": True}
    assert submitted(gateway, "FILE_QUARANTINE", sent)["parameters"] == sent
    submitted(gateway, "FILE_ACQUIRE", {**QUARANTINE, "container.id": "A" * 12}, callerId="another")
    (step,), (reading,) = (request.steps for request in gateway.requests())
    assert step.target == reading.target == FileTarget(b"/tmp/dropper", START_NS, "a" * 12)
    assert dict(step.parameters) == {"allow_immutable": "true", "force_hardlinked": True}


@pytest.mark.parametrize("tree", [True, "true"])
def test_a_whole_tree_may_be_named_and_is_echoed_as_it_came(tree: bool | str) -> None:
    gateway = FakeGateway()
    sent = {**KILL, "tree": tree}
    assert submitted(gateway, "KILL_PROCESS", sent)["parameters"] == sent
    assert dict(gateway.requests()[0].steps[0].parameters) == {"tree": tree}


def test_a_process_is_suspended_and_the_undo_names_it() -> None:
    gateway = FakeGateway()
    shown = submitted(gateway, "SUSPEND_PROCESS", KILL)
    assert (shown["actionType"], shown["status"], shown["parameters"]) == ("SUSPEND_PROCESS", "ENQUEUED", KILL)
    (step,) = gateway.requests()[0].steps
    assert (step.action, step.target) == ("suspend_process", ProcessTarget((ProcessRef(4711),), START_NS))
    story = Story(1, action="suspend_process")
    gateway.history.put(story.requested(), story.dispatched(), story.ended(outputs={"pid": 4711}, effect_holds=True))
    undo = gateway.send("DELETE", f"{PATH}/{story.id}").json()
    assert (undo["actionType"], undo["actionExecutionIdBeingUndone"]) == ("RESUME_PROCESS", story.id)
    assert undo["parameters"]["process.id"] == "4711"


@pytest.mark.parametrize(
    ("action", "parameters", "field"),
    [
        ("DANCE", {}, "actionType"),
        ("RESUME_PROCESS", {"host.id": "web-1", "process.id": 4711, "startTime": -1}, "actionType"),
        ("KILL_PROCESS", {**KILL, "tree": "all of it"}, "parameters"),
        ("SUSPEND_PROCESS", {**KILL, "tree": True}, "tree"),
        ("K" * 33, {}, "actionType"),
        (7, {}, "actionType"),
        ("FILE_UNQUARANTINE", {**QUARANTINE, "quarantined_file_path": "/v/1"}, "actionType"),
        ("KILL_PROCESS", [], "parameters"),
        ("KILL_PROCESS", None, "parameters"),
        ("KILL_PROCESS", {}, "host.id"),
        ("KILL_PROCESS", {"host.id": "web-1", "process.id": 1}, "startTime"),
        ("KILL_PROCESS", {**KILL, "host.id": 7}, "host.id"),
        ("KILL_PROCESS", {**KILL, "process.id": "many"}, "process.id"),
        ("KILL_PROCESS", {**KILL, "process.id": True}, "process.id"),
        ("KILL_PROCESS", {**KILL, "process.id": 0}, "process.id"),
        ("KILL_PROCESS", {**KILL, "process.id": "٤"}, "process.id"),
        ("KILL_PROCESS", {**KILL, "process.id": 4711.0}, "process.id"),
        ("KILL_PROCESS", {**KILL, "process.id": 1 << 64}, "process.id"),
        ("KILL_PROCESS", {**KILL, "startTime": -2}, "startTime"),
        ("KILL_PROCESS", {**KILL, "startTime": "now"}, "startTime"),
        ("KILL_PROCESS", {**KILL, "ancestor": 1}, "ancestor"),
        ("KILL_PROCESS", {**KILL, "container.id": "a" * 12}, "container.id"),
        ("FILE_QUARANTINE", {**QUARANTINE, "path.absolute": "dropper"}, "path.absolute"),
        ("FILE_QUARANTINE", {**QUARANTINE, "path.absolute": "/" + "x" * 512}, "path.absolute"),
        ("FILE_QUARANTINE", {**QUARANTINE, "container.id": "my-container"}, "container.id"),
        ("FILE_QUARANTINE", {**QUARANTINE, "allow_immutable": "perhaps"}, "parameters"),
        ("FILE_QUARANTINE", {**QUARANTINE, **{f"p{n}": "" for n in range(64)}}, "parameters"),
    ],
)
def test_whatever_is_wrong_is_400_with_its_field_and_nothing_is_written(
    action: Any, parameters: Any, field: str
) -> None:
    gateway = FakeGateway()
    answer = gateway.post(PATH, json={"actionType": action, "parameters": parameters})
    named = refused(answer, 400)["details"][0]["field"]
    assert named == field, answer.text
    assert gateway.written == []
    assert gateway.audit() == []


def test_an_action_that_only_runs_as_an_undo_is_refused_with_a_hint_at_delete() -> None:
    answer = FakeGateway().post(PATH, json={"actionType": "FILE_UNQUARANTINE", "parameters": QUARANTINE})
    assert "DELETE" in refused(answer, 400)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"actionType": "KILL_PROCESS"}',
        b'{"actionType": "KILL_PROCESS", "parameters": {}, "dry_run": true}',
        b'{"actionType": "KILL_PROCESS", "parameters": {}, "callerId": 7}',
        b'{"actionType": "KILL_PROCESS", "parameters": {}, "callerId": "%s"}' % (b"x" * 129),
        b'{"actionType": "KILL_PROCESS", "parameters": {"host.id": "\\ud800"}}',
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_none_is_400(body: bytes) -> None:
    gateway = FakeGateway()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    refused(gateway.post(PATH, content=body, headers=headers), 400)
    assert gateway.written == []


# Reading.


def test_outputs_are_text_and_failures_have_their_reason() -> None:
    gateway = FakeGateway()
    done, failed, unsure = (Story(number, caller_id="x") for number in (1, 2, 3))
    outputs: Values = {"pid": 4711, "started_at": START_NS + 7, "container_init": False, "identity": "pid_at_intake"}
    gateway.history.put(done.requested(), done.dispatched(), done.claimed(), done.ended(outputs=outputs))
    gateway.history.put(failed.requested(), replace(failed.refused(), message="there is no such node"))
    gateway.history.put(unsure.requested(), unsure.dispatched(), unsure.claimed(), unsure.ended(Outcome.UNKNOWN))
    newest, middle, oldest = gateway.get(PATH).json()["data"]
    assert (newest["id"], newest["status"]) == (unsure.id, "IN_PROGRESS")
    assert (middle["status"], middle["failure"]) == (
        "FAILED",
        {"failureReason": "kill_process_error_unknown_node", "logMessage": "there is no such node"},
    )
    assert (oldest["status"], oldest["outputs"]) == (
        "COMPLETED",
        {"pid": "4711", "started_at": str(START_NS + 7), "container_init": False, "identity": "pid_at_intake"},
    )
    assert oldest["parameters"] == {"host.id": "web-1", "process.id": "4711", "startTime": "-1"}
    assert oldest["executionContext"] == {"host.id": NODE, "host.hostName": "web-1"}
    assert "failure" not in oldest


def test_what_a_node_claims_is_no_output_yet() -> None:
    gateway = FakeGateway()
    story = Story(1)
    gateway.history.put(story.requested(), story.dispatched(), replace(story.claimed(), outputs={"present": True}))
    shown = gateway.get(f"{PATH}/{story.id}").json()
    assert (shown["status"], "outputs" in shown) == ("IN_PROGRESS", False)


def test_a_list_is_cut_by_limit_and_offset_time_caller_and_filter() -> None:
    gateway = FakeGateway()
    stories = [Story(number, caller_id=f"c{number % 2}") for number in range(30)]
    for story in stories:
        gateway.history.put(*(story.whole() if story.number % 3 else [story.requested()]))

    def ids(**query: Any) -> list[str]:
        return [row["id"] for row in gateway.get(PATH, params=query).json()["data"]]

    newest = [story.id for story in reversed(stories)]
    assert ids() == newest[:25]
    assert ids(limit=200) == newest
    assert ids(limit=7, offset=4) == newest[4:11]
    assert ids(offset=30) == []
    assert ids(callerId="c1") == newest[::2]
    assert ids(filter="status = COMPLETED", limit=3) == newest[:2] + newest[3:4]
    assert ids(filter="status = ENQUEUED and callerId = c0") == newest[5::6]
    assert ids(**{"from": stories[2].at_ns, "to": stories[4].at_ns}) == [stories[3].id, stories[2].id]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=201", "limit=x", "offset=-1", "from=-1", "from=now", "from=2&to=1", "from=1&to=1"),
        *(f"callerId={'x' * 129}", "filter=what", "callerId=a&filter=callerId%3Db", f"to={1 << 63}"),
    ],
)
def test_a_list_that_cannot_be_is_400(query: str) -> None:
    refused(FakeGateway().get(f"{PATH}?{query}"), 400)


def test_what_is_not_there_is_404() -> None:
    gateway = FakeGateway()
    for path in (f"{PATH}/{Story(1).id}", f"{PATH}/x", f"{PATH}/x/acquired-file", f"{ROOT}/nothing"):
        refused(gateway.get(path), 404)
    refused(gateway.send("DELETE", f"{PATH}/{Story(1).id}"), 404)
    refused(gateway.get(f"{PATH}/{'x' * 129}"), 400)


# Undoing.


@pytest.mark.parametrize("more", [{}, {"json": {"callerId": "undo-7"}}, {"json": {}}, {"json": {"callerId": None}}])
def test_delete_is_undo_and_answers_a_new_execution(more: dict[str, Any]) -> None:
    gateway = FakeGateway()
    story = Story(1, action="file_quarantine", target=FileTarget(b"/tmp/dropper", START_NS))
    vaulted = {"quarantined_file_path": "/vault/1"}
    gateway.history.put(story.requested(), story.dispatched(), story.ended(outputs=vaulted, effect_holds=True))
    answer = gateway.send("DELETE", f"{PATH}/{story.id}", **more)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["id"] != story.id
    assert shown["actionExecutionIdBeingUndone"] == story.id
    assert (shown["actionType"], shown["status"]) == ("FILE_UNQUARANTINE", "ENQUEUED")
    assert shown["parameters"] == {"host.id": NODE, "path.absolute": "/tmp/dropper", **vaulted}
    assert shown["executionContext"] == {"host.id": NODE, "host.hostName": "web-1"}
    assert shown.get("callerId") == (more.get("json") or {}).get("callerId")
    (request,) = gateway.requests()
    assert (request.verb, request.subject) == (Verb.UNDO, story.id)
    assert gateway.get(f"{PATH}/{shown['id']}").json() == shown
    found = gateway.get(PATH, params={"filter": f"actionExecutionIdBeingUndone = {story.id}"}).json()["data"]
    assert [row["id"] for row in found] == [shown["id"]]


def test_what_cannot_be_undone_is_400_and_nothing_is_written() -> None:
    gateway = FakeGateway()
    story = Story(1)
    gateway.history.put(*story.whole())
    assert refused(gateway.send("DELETE", f"{PATH}/{story.id}"), 400)["type"] == "irreversible"
    refused(gateway.send("DELETE", f"{PATH}/{story.id}", json={"reason": "x"}), 400)
    assert gateway.written == []


# Who may what.


def test_errors_have_the_published_statuses_and_every_answer_the_limit() -> None:
    gateway = FakeGateway(a_minute=2)
    answer = gateway.get(f"{ROOT}/actions", headers={})
    assert refused(answer, 401)["type"] == "unauthorized"
    assert gateway.get(f"{ROOT}/actions").headers["x-ratelimit-limit"] == "2"
    gateway.bus.is_down = True
    lost = gateway.post(PATH, json={"actionType": "KILL_PROCESS", "parameters": KILL, "callerId": "c"})
    assert refused(lost, 500)["type"] == "log_away"
    assert "callerId" in lost.json()["message"]
    limited = gateway.get(PATH)
    assert refused(limited, 429)["type"] == "too_many_requests"
    assert limited.headers["retry-after"] == "60"


def test_the_same_key_writes_once() -> None:
    gateway = FakeGateway()
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "k"}
    body = {"actionType": "KILL_PROCESS", "parameters": KILL}
    first, second = (gateway.post(PATH, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    other = gateway.post(PATH, json={**body, "parameters": {**KILL, "process.id": 1}}, headers=headers)
    refused(other, 400, "target")
    assert len(gateway.written) == 1


CONTAIN, GATHER = Permission.CONTAINMENT, Permission.GATHERING


@pytest.mark.parametrize("api", ["compatible", "native"])
@pytest.mark.parametrize("permission", [CONTAIN, GATHER, None])
@pytest.mark.parametrize("access", Access)
def test_without_the_right_of_the_class_nothing_is_shown_or_done_through_either_api(
    api: str, permission: Permission | None, access: Access
) -> None:
    rights = frozenset({right(permission, access)}) if permission is not None else frozenset[str]()
    gateway = FakeGateway(person=Principal("eve", rights))
    story = Story(1, action="file_quarantine", target=FileTarget(b"/tmp/dropper", START_NS))
    gateway.history.put(*story.whole(effect_holds=True))
    native = {"action": "kill_process", "host": "web-1", "target": {"process": {"pid": 4711}}}
    path, body = (
        (PATH, {"actionType": "KILL_PROCESS", "parameters": KILL})
        if api == "compatible"
        else ("/api/v1/executions", native)
    )
    may_exec = permission is CONTAIN and access is Access.EXEC
    may_read = permission is CONTAIN and access is Access.READ
    status = gateway.post(path, json=body).status_code
    assert (status == 201) is may_exec
    assert status in (201, 403)
    assert (gateway.send("DELETE", f"{path}/{story.id}").status_code != 403) is may_exec
    one = gateway.get(f"{path}/{story.id}")
    assert one.status_code == (200 if may_read else 403), one.text
    listed = gateway.get(path)
    if permission is not None and access is Access.READ:
        assert [row["id"] for row in listed.json()["data"]] == ([story.id] if may_read else [])
    else:
        assert_error(listed, 403, "forbidden")
    assert bool(gateway.written) is may_exec
    refusals = [status, one.status_code, listed.status_code].count(403) + (not may_exec)
    assert gateway.telemetry.labelled["gateway.refused", (("reason", "forbidden"),)] == refusals


# What can be executed.


def actions(gateway: FakeGateway, query: str = "") -> list[str]:
    """The types that are listed."""
    answer = gateway.get(f"{ROOT}/actions{query}")
    assert answer.status_code == 200, answer.text
    return [row["type"] for row in answer.json()["data"]]


def test_actions_describe_themselves_and_what_only_undoes_is_not_among_them() -> None:
    gateway = FakeGateway()
    rows = {row["type"]: row for row in gateway.get(f"{ROOT}/actions").json()["data"]}
    assert "FILE_UNQUARANTINE" not in rows
    assert rows["FILE_QUARANTINE"]["isUndoable"] is True
    assert rows["KILL_PROCESS"]["isUndoable"] is False
    assert [(p["name"], p["type"], p["required"]) for p in rows["KILL_PROCESS"]["parameters"]] == [
        ("host.id", "string", True),
        ("process.id", "integer", True),
        ("startTime", "integer", True),
        ("tree", "boolean", False),
    ]
    assert "RESUME_PROCESS" not in rows
    assert rows["SUSPEND_PROCESS"]["isUndoable"] is True
    assert [p["name"] for p in rows["SUSPEND_PROCESS"]["parameters"]] == ["host.id", "process.id", "startTime"]
    assert "quarantined_file_path" in {output["name"] for output in rows["FILE_QUARANTINE"]["outputs"]}
    for row in rows.values():
        assert row["description"]
        assert all(set(each) == {"name", "description", "type", "required"} for each in row["parameters"])


def test_in_a_context_only_what_that_node_has_switched_on_is_listed() -> None:
    gateway = FakeGateway()
    state = replace(heartbeat(1), actions=("kill_process",))
    with gateway.history.begin() as tx:
        tx.put_node(state, payload=FakeCodec().encode(state), verified=True, folded_at_ns=gateway.clock.now_ns())
    host = state.host_names[0]
    context = json.dumps({"host.id": state.node_id, "process.id": "4711"})
    spellings = [f"?context={context}", f"?context[host.id]={host}", f"?host.id={host}&container.id=host"]
    assert [actions(gateway, query) for query in spellings] == [["KILL_PROCESS"]] * 3
    assert actions(gateway, f"?host.hostName={host}") == ["KILL_PROCESS"]
    assert actions(gateway, "?host.id=elsewhere") == []
    assert actions(gateway, f"?host.id={host}&process.id=none") == []
    gateway.clock.advance(601)
    assert actions(gateway, f"?host.id={host}") == []
    refused(gateway.get(f"{ROOT}/actions?context=nonsense"), 400, "context")


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ({}, {"process", "container", "file", "network"}),
        ({"container.id": "host"}, {"process", "file", "network"}),
        ({"process.id": "4711"}, {"process", "network"}),
        ({"container.id": "ab" * 32}, {"container", "network"}),
        ({"container.id": "ab" * 32, "process.id": "4711"}, {"process", "container", "network"}),
        ({"path.absolute": "/tmp/xmrig"}, {"file", "network"}),
        ({"path.absolute": "/tmp/xmrig", "container.id": "host"}, {"file", "network"}),
        ({"path.absolute": "tmp/xmrig"}, {"network"}),
        ({"process.id": "4194304"}, {"network"}),
        ({"container.id": "web"}, set()),
    ],
)
def test_a_context_offers_only_actions_on_what_its_labels_name(labels: dict[str, str], kinds: set[str]) -> None:
    """A network without a container is the host's own; every host has one."""
    gateway = FakeGateway()
    state = replace(heartbeat(1), actions=tuple(action.name for action in CATALOGUE))
    with gateway.history.begin() as tx:
        tx.put_node(state, payload=FakeCodec().encode(state), verified=True, folded_at_ns=gateway.clock.now_ns())
    listed = actions(gateway, f"?context={json.dumps({'host.id': state.node_id} | labels)}")
    offered = {action.target.kind for action in CATALOGUE if action.api_type in listed}
    assert offered == kinds
    assert listed == [action.api_type for action in CATALOGUE if action.target.kind in kinds and not action.undo_only]


def test_two_nodes_of_one_name_and_one_that_does_not_verify_execute_nothing() -> None:
    gateway = FakeGateway()
    one, other = (
        replace(heartbeat(1), host_names=("twin",)),
        replace(heartbeat(1), node_id=NodeId("b" * 32), host_names=("twin",)),
    )
    forged = replace(heartbeat(1), node_id=NodeId("c" * 32), host_names=("forged",))
    with gateway.history.begin() as tx:
        for state in (one, other, forged):
            tx.put_node(
                state,
                payload=FakeCodec().encode(state),
                verified=state is not forged,
                folded_at_ns=gateway.clock.now_ns(),
            )
    assert actions(gateway, "?host.id=twin") == []
    assert actions(gateway, "?host.id=forged") == []


def test_only_actions_of_a_class_that_the_caller_may_execute_are_listed() -> None:
    gathering = FakeGateway(person=Principal("eve", frozenset({right(GATHER, Access.EXEC)})))
    assert "KILL_PROCESS" not in actions(gathering)
    nobody = FakeGateway(person=Principal("eve", frozenset({right(CONTAIN, Access.READ)})))
    refused(nobody.get(f"{ROOT}/actions"), 403)


def test_of_a_hundred_submissions_at_once_each_is_answered_with_its_own_execution() -> None:
    gateway = FakeGateway()
    body = {"actionType": "KILL_PROCESS", "parameters": KILL}
    calls = [("POST", PATH, {"json": {**body, "callerId": str(number)}}) for number in range(100)]
    answers = asyncio.run(gateway.send_many(calls))
    assert [answer.json()["callerId"] for answer in answers] == [str(number) for number in range(100)]
    assert len({answer.json()["id"] for answer in answers}) == 100

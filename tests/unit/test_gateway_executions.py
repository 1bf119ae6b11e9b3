"""Asking for an action over HTTP: what is checked, what is written, and what is answered when history is slow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.fakes.gateway import FakeGateway
from tests.stories import NODE, Story, event
from tests.unit.test_gateway_edge import assert_error
from workers.domain.event import ContainerRef, ProcessRef
from workers.domain.ids import uuid7, uuid7_time_ns
from workers.domain.log.routing import murmur2
from workers.domain.log.topics import REQUESTS_PEOPLE
from workers.domain.outcome import Outcome, PostCondition, Stage
from workers.domain.request import ActorKind, Verb
from workers.domain.target import NetworkTarget, ProcessTarget

PATH = "/api/v1/executions"
KILL: dict[str, Any] = {
    "action": "kill_process",
    "host": "web-1",
    "target": {"process": {"pid": 4711}},
    "reason": "it looked wrong",
}


def test_a_request_is_written_once_keyed_by_its_execution_and_answered_when_history_knows_it() -> None:
    gateway = FakeGateway()
    answer = gateway.post(PATH, json=KILL)
    assert answer.status_code == 201
    shown = answer.json()
    assert answer.headers["location"] == f"{PATH}/{shown['id']}"
    assert (shown["stage"], shown["outcome"]) == ("REQUESTED", None)
    (record,) = gateway.written
    assert (record.topic, record.key) == (REQUESTS_PEOPLE, shown["id"].encode())
    (request,) = gateway.requests()
    assert request.verb is Verb.EXECUTE
    assert (request.actor.kind, request.actor.name) == (ActorKind.PERSON, "admin")
    assert request.steps[0].target == ProcessTarget((ProcessRef(4711),), START_NS)
    assert uuid7_time_ns(request.steps[0].execution_id) == START_NS
    assert gateway.get(f"{PATH}/{shown['id']}").json() == shown


def test_the_trace_of_the_caller_goes_on_in_the_record() -> None:
    gateway = FakeGateway()
    trace = f"00-{7:032x}-{9:016x}-01"
    headers = {"Authorization": "Bearer a token for tests", "traceparent": trace}
    gateway.post(PATH, json=KILL, headers=headers)
    (record,) = gateway.written
    ((name, value),) = record.headers
    assert name == "traceparent"
    assert value.decode().split("-")[1] == f"{7:032x}"
    assert gateway.telemetry.spans[-1].parent_id == 9


def test_a_request_is_in_the_audit_chain_before_it_is_sent() -> None:
    gateway = FakeGateway()
    gateway.bus.is_down = True
    assert_error(gateway.post(PATH, json=KILL), 503, "log_away")
    (record,) = gateway.audit()
    assert (record.kind, record.actor, record.worker) == ("asked", "admin", "gateway")
    assert record.detail == {"verb": "execute", "host": "web-1", "dry_run": False, "action": "kill_process"}


def test_an_unavailable_log_is_503_with_retry_after() -> None:
    gateway = FakeGateway()
    gateway.bus.is_down = True
    assert gateway.post(PATH, json=KILL).headers["retry-after"] == "1"


def test_history_that_is_behind_is_202_with_the_request() -> None:
    gateway = FakeGateway(folds=False)
    answer = gateway.post(PATH, json=KILL)
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["stage"], shown["reason"], shown["steps"]) == ("REQUESTED", "it looked wrong", [])
    assert_error(gateway.get(f"{PATH}/{shown['id']}"), 404)


@pytest.mark.parametrize("start", [-1, "-1", None])
def test_an_unknown_start_time_leaves_the_pid_to_the_node(start: object) -> None:
    gateway = FakeGateway()
    gateway.post(PATH, json={**KILL, "target": {"process": {"pid": 4711, "start_time_ns": start}}})
    assert _line(gateway) == (ProcessRef(4711),)


@pytest.mark.parametrize("start", [1_783_198_004_170_000_001, "1783198004170000001"])
def test_a_start_time_keeps_its_last_nanosecond_as_number_and_as_text(start: object) -> None:
    gateway = FakeGateway()
    answer = gateway.post(PATH, json={**KILL, "target": {"process": {"pid": 4711, "start_time_ns": start}}})
    assert _line(gateway) == (ProcessRef(4711, 1_783_198_004_170_000_001),)
    assert answer.json()["target"]["process_line"][0]["started_at"] == "2026-07-04T20:46:44.170000001Z"


def test_by_event_id_the_target_host_and_time_come_from_the_event() -> None:
    gateway = FakeGateway()
    line = (ProcessRef(4711, 1, "/tmp/x", "x"), ProcessRef(4700))
    stored = replace(event(1, host="web-9"), process_line=line)
    with gateway.history.begin() as tx:
        tx.put_event(stored, payload=FakeCodec().encode(stored))
    body = {"action": "KILL_PROCESS", "event_id": stored.event_id, "parameters": {"ancestor": "1"}}
    assert gateway.post(PATH, json=body).status_code == 201
    (request,) = gateway.requests()
    assert request.steps[0].action == "kill_process"
    assert request.steps[0].target == ProcessTarget(line, stored.occurred_at_ns)
    assert (request.host, request.causation.event_id) == ("web-9", stored.event_id)
    assert request.detected_at_ns == stored.occurred_at_ns
    found = gateway.get(PATH, params={"event_id": stored.event_id}).json()["data"]
    assert [row["id"] for row in found] == [request.steps[0].execution_id]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"action": "dance"}, "action"),
        ({"action": 7}, "action"),
        ({"host": ""}, "host"),
        ({"host": None}, "host"),
        ({"target": None}, "target"),
        ({"target": {}}, "target"),
        ({"target": {"process": {"pid": 1}, "container": {"id": "a" * 12}}}, "target"),
        ({"target": {"process": {"pid": 0}}}, "target.process.pid"),
        ({"target": {"process": {"pid": "4711"}}}, "target.process.pid"),
        ({"target": {"process": {"pid": 4711.0}}}, "target.process.pid"),
        ({"target": {"process": {"pid": 1 << 30}}}, "target.process.pid"),
        ({"target": {"process": {"pid": 1, "start_time_ns": -2}}}, "target.process.start_time_ns"),
        ({"target": {"process": {"pid": 1, "start_time_ns": 1.5e18}}}, "target.process.start_time_ns"),
        ({"target": {"process": {"pid": 1, "start_time_ns": "now"}}}, "target.process.start_time_ns"),
        ({"target": {"container": {"id": "a" * 12}}}, "target"),
        ({"target": {"container": {"id": "my-container"}}}, "target.container.id"),
        ({"target": {"file": {"path": "relative"}}}, "target.file.path"),
        ({"target": {"file": {"path": "/x", "container_id": "short"}}}, "target.file.container_id"),
        (
            {"target": {"network": {"container_id": "short"}}, "action": "isolate_network"},
            "target.network.container_id",
        ),
        ({"target": {"network": {}}}, "target"),
        ({"target": {"network": {}, "container": {"id": "a" * 12}}}, "target"),
        ({"event_id": "x"}, "event_id"),
        ({"parameters": {"ancestor": "many"}}, "parameters"),
        ({"parameters": {"ancestor": -1}}, "parameters"),
        ({"parameters": {"ancestor": 1.0}}, "parameters.ancestor"),
        ({"parameters": {"force": True}}, "parameters"),
        ({"parameters": [1]}, "parameters"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"dryrun": True}, "dryrun"),
        ({"ttl_s": -1}, "ttl_s"),
        ({"undo_after_s": 60}, "undo_after_s"),
        ({"reason": "x" * 1025}, "reason"),
        ({"reason": "\ud800"}, "reason"),
    ],
)
def test_whatever_is_wrong_is_named_by_its_field_and_nothing_is_written(change: dict[str, Any], field: str) -> None:
    gateway = FakeGateway()
    answer = gateway.post(PATH, content=_json({**KILL, **change}), headers=_headers())
    assert_error(answer, 400)
    assert any(each.get("field", "").startswith(field) for each in answer.json()["details"]), answer.text
    assert gateway.written == []
    assert gateway.audit() == []


def test_a_network_is_that_of_the_host_or_of_a_container() -> None:
    gateway = FakeGateway()
    for named, target in (
        ({}, NetworkTarget(START_NS)),
        ({"container_id": "A" * 12}, NetworkTarget(START_NS, "a" * 12)),
    ):
        body = {"action": "isolate_network", "host": "web-1", "target": {"network": named}}
        shown = gateway.post(PATH, json=body).json()
        assert gateway.requests()[-1].steps[0].target == target
        assert (shown["target"]["kind"], shown["target"]["container_id"]) == ("network", target.container_id)


def test_an_event_that_names_no_process_is_no_target() -> None:
    gateway = FakeGateway()
    stored = replace(event(1), container=ContainerRef("a" * 12))
    with gateway.history.begin() as tx:
        tx.put_event(stored, payload=FakeCodec().encode(stored))
    answer = gateway.post(PATH, json={"action": "kill_process", "event_id": stored.event_id})
    assert_error(answer, 400, "event_lacks_target")


# One key, one execution.


def test_the_same_key_writes_once_and_answers_the_same_execution() -> None:
    gateway = FakeGateway()
    first = gateway.post(PATH, json=KILL, headers=_headers("k"))
    gateway.clock.advance(3600)
    second = gateway.post(PATH, json=KILL, headers=_headers("k"))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(gateway.written) == 1


def test_the_same_key_before_history_has_the_request_writes_again_under_the_same_id() -> None:
    gateway = FakeGateway(folds=False)
    ids = {gateway.post(PATH, json=KILL, headers=_headers("k")).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert len(gateway.written) == 2


def test_a_key_holds_for_a_day_across_midnight_and_not_for_two() -> None:
    gateway = FakeGateway()
    first = gateway.post(PATH, json=KILL, headers=_headers("k")).json()["id"]
    gateway.clock.advance(23.9 * 3600)
    assert gateway.post(PATH, json=KILL, headers=_headers("k")).json()["id"] == first
    gateway.clock.advance(24.2 * 3600)
    assert gateway.post(PATH, json=KILL, headers=_headers("k")).json()["id"] != first


def test_an_execution_takes_its_time_from_a_key_that_is_a_fresh_uuid7() -> None:
    gateway = FakeGateway()
    made_ns = START_NS - 5_000_000_000
    key = uuid7(made_ns, bytes(10))
    first = gateway.post(PATH, json=KILL, headers=_headers(key)).json()["id"]
    assert uuid7_time_ns(first) == made_ns
    assert first != key
    gateway.clock.advance(80_000)
    assert gateway.post(PATH, json=KILL, headers=_headers(key)).json()["id"] == first
    stale = uuid7(made_ns - 2 * 86_400_000_000_000, bytes(10))
    midnight = gateway.post(PATH, json=KILL, headers=_headers(stale)).json()["id"]
    assert uuid7_time_ns(midnight) % 86_400_000_000_000 == 0


@pytest.mark.parametrize(
    "change",
    [{"host": "web-2"}, {"target": {"process": {"pid": 1}}}, {"parameters": {"ancestor": 1}}, {"dry_run": True}],
)
def test_a_key_that_stands_for_something_else_is_refused(change: dict[str, Any]) -> None:
    gateway = FakeGateway()
    gateway.post(PATH, json=KILL, headers=_headers("k"))
    answer = gateway.post(PATH, json={**KILL, **change}, headers=_headers("k"))
    assert_error(answer, 409, "idempotency_key_reused")
    assert len(gateway.written) == 1


def test_an_undo_under_one_key_is_one_execution_also_when_it_is_over() -> None:
    gateway = FakeGateway(folds=False)
    taken = Story(7, action="file_quarantine")
    gateway.history.put(*taken.whole(effect_holds=True))
    ids = {gateway.send("DELETE", f"{PATH}/{taken.id}", headers=_headers("k")).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    (first, _) = gateway.requests()
    undo = Story(8, action="file_unquarantine", undo_of=taken.id)
    asked = replace(undo.requested(), execution_id=first.steps[0].execution_id, request=first)
    gateway.history.put(asked, *(replace(step, execution_id=asked.execution_id) for step in undo.whole()[1:]))
    again = gateway.send("DELETE", f"{PATH}/{taken.id}", headers=_headers("k"))
    assert (again.status_code, again.json()["id"]) == (200, asked.execution_id)
    assert_error(gateway.send("DELETE", f"{PATH}/{taken.id}", headers=_headers("another")), 409, "undone")
    assert_error(gateway.post(PATH, json=KILL, headers=_headers("k")), 409, "idempotency_key_reused")
    assert len(gateway.written) == 2


# Following, undoing, cancelling.


def test_an_execution_is_shown_with_its_steps_in_order_of_stage_and_its_times() -> None:
    gateway = FakeGateway()
    story = Story(3, event_id=event(3).event_id)
    proof = PostCondition("process_gone", True, "it is gone")
    ended = replace(story.ended(outputs={"started_at": START_NS + 7, "pid": 4711, "init": False}), post_condition=proof)
    gateway.history.put(ended, story.claimed(), story.dispatched(), story.requested())
    shown = gateway.get(f"{PATH}/{story.id}").json()
    assert [step["stage"] for step in shown["steps"]] == ["REQUESTED", "DISPATCHED", "CLAIMED", "ENDED"]
    assert shown["outcome"] == "COMPLETED"
    assert shown["node_id"] == NODE
    assert shown["post_condition"] == {"name": "process_gone", "holds": True, "detail": "it is gone"}
    assert shown["command_sha256"] == "c" * 64
    # A double would round this one away; the small ones stay numbers.
    assert shown["outputs"] == {"started_at": str(START_NS + 7), "pid": 4711, "init": False}
    assert shown["timings"]["detected_to_acted_us"] == 2_000_000
    assert shown["timings"]["detected_to_verified_us"] == 2_000_000
    assert shown["claimed_at"] == "2030-03-17T17:46:44.000000001Z"


def test_a_stage_is_never_called_an_outcome() -> None:
    gateway = FakeGateway()
    story = Story(4)
    gateway.history.put(story.requested(), story.dispatched(), story.alarmed())
    shown = gateway.get(f"{PATH}/{story.id}").json()
    assert (shown["stage"], shown["outcome"], shown["ended_at"]) == ("DISPATCHED", None, None)
    assert shown["alarms"] == ["node_silent"]


def test_waiting_for_an_end_answers_at_once_when_there_is_one_and_in_time_when_there_is_none() -> None:
    gateway = FakeGateway()
    running, over = Story(5), Story(6)
    gateway.history.put(running.requested(), *over.whole())
    assert gateway.get(f"{PATH}/{over.id}", params={"wait_s": 60}).json()["outcome"] == "COMPLETED"
    assert gateway.get(f"{PATH}/{running.id}", params={"wait_s": 0.01}).json()["outcome"] is None
    assert_error(gateway.get(f"{PATH}/{running.id}", params={"wait_s": 61}), 400)


def test_lists_page_without_a_gap_or_a_double_and_filter_by_every_word() -> None:
    gateway = FakeGateway()
    stories = [Story(number, rule="r" if number % 2 else "") for number in range(1, 8)]
    gateway.history.put(*(result for story in stories for result in story.whole()))
    stored: list[str] = []
    cursor = ""
    while True:
        page = gateway.get(PATH, params={"limit": 3, "cursor": cursor}).json()
        stored += [row["id"] for row in page["data"]]
        assert all(row["steps"] == [] for row in page["data"])
        cursor = page["next"]
        if cursor is None:
            break
    assert stored == [story.id for story in reversed(stories)]
    for query, count in (({"rule": "r"}, 4), ({"stage": "ended"}, 7), ({"outcome": "FAILED"}, 0), ({"host": NODE}, 7)):
        assert len(gateway.get(PATH, params=query).json()["data"]) == count, query
    late = {"from": stories[4].requested().at_ns}
    assert len(gateway.get(PATH, params=late).json()["data"]) == 3


def test_what_cannot_be_undone_is_409_and_nothing_is_written() -> None:
    gateway = FakeGateway()
    story = Story(7)
    gateway.history.put(*story.whole())
    assert_error(gateway.send("DELETE", f"{PATH}/{story.id}"), 409, "irreversible")
    assert_error(gateway.send("DELETE", f"{PATH}/{Story(8).id}"), 404)
    assert gateway.written == []


def test_a_cancel_is_a_request_about_the_execution_and_only_while_it_runs() -> None:
    gateway = FakeGateway()
    story = Story(9)
    gateway.history.put(story.requested(), story.dispatched())
    answer = gateway.post(f"{PATH}/{story.id}/cancel", json={"reason": "a mistake"})
    assert answer.status_code == 202
    assert answer.json()["stage"] == Stage.DISPATCHED
    (request,) = gateway.requests()
    assert (request.verb, request.subject, request.reason) == (Verb.CANCEL, story.id, "a mistake")
    assert gateway.written[0].key == story.id.encode()
    gateway.history.put(story.ended(Outcome.UNKNOWN))
    assert gateway.post(f"{PATH}/{story.id}/cancel").status_code == 202
    gateway.history.put(story.ended(Outcome.COMPLETED, seq=3))
    assert_error(gateway.post(f"{PATH}/{story.id}/cancel"), 409, "ended")


def test_contained_is_what_holds_and_was_not_undone() -> None:
    gateway = FakeGateway()
    holds, lifted = Story(10), Story(11)
    undo = Story(12, undo_of=lifted.id)
    results = [holds.whole(effect_holds=True), lifted.whole(effect_holds=True), undo.whole()]
    gateway.history.put(*(result for whole in results for result in whole))
    assert [row["id"] for row in gateway.get("/api/v1/contained").json()["data"]] == [holds.id]


def test_an_execution_shows_whether_it_can_be_undone_and_what_undid_it() -> None:
    gateway = FakeGateway()
    holds, lifted = Story(10, action="pause_container"), Story(11, action="pause_container")
    failed = Story(12, actor="bob", action="unpause_container", undo_of=lifted.id)
    undo = Story(13, actor="carol", action="unpause_container", undo_of=lifted.id)
    gateway.history.put(*holds.whole(effect_holds=True), *lifted.whole(effect_holds=True))
    gateway.history.put(*failed.whole(Outcome.FAILED), *undo.whole())
    one = gateway.get(f"{PATH}/{holds.id}").json()
    assert (one["undoable"], one["why_not_undoable"], one["undone_by"], one["undos"]) == (True, "", None, [])
    one = gateway.get(f"{PATH}/{lifted.id}").json()
    assert (one["effect_holds"], one["undoable"]) == (False, False)
    assert one["why_not_undoable"] == f"it was undone by {undo.id}"
    assert (one["undone_by"]["id"], one["undone_by"]["actor"], one["undone_by"]["outcome"]) == (
        undo.id,
        "carol",
        "COMPLETED",
    )
    assert [(each["id"], each["outcome"]) for each in one["undos"]] == [(undo.id, "COMPLETED"), (failed.id, "FAILED")]
    listed = {row["id"]: row for row in gateway.get(PATH).json()["data"]}
    assert listed[lifted.id] == {**one, "steps": []}
    refused = gateway.send("DELETE", f"{PATH}/{lifted.id}")
    assert_error(refused, 409, "undone")
    assert undo.id in refused.text
    assert "carol" in refused.text


def test_requests_are_spread_over_partitions_by_execution() -> None:
    gateway = FakeGateway()
    for _ in range(20):
        gateway.post(PATH, json=KILL)
    assert len({murmur2(record.key or b"") % 3 for record in gateway.written}) == 3


def _line(gateway: FakeGateway) -> tuple[ProcessRef, ...]:
    target = gateway.requests()[-1].steps[0].target
    assert isinstance(target, ProcessTarget)
    return target.line


def _headers(key: str = "") -> dict[str, str]:
    known = {"Authorization": "Bearer a token for tests", "Content-Type": "application/json"}
    return known | ({"Idempotency-Key": key} if key else {})


def _json(body: object) -> bytes:
    return json.dumps(body).encode()

"""Detectors' events over HTTP: all or nothing, each named by its number when it is wrong, and never a 500."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import START_NS
from tests.fakes.codec import FakeCodec
from tests.fakes.gateway import FakeGateway
from tests.stories import NODE, Story, event, heartbeat
from tests.unit.test_gateway_edge import assert_error
from workers.actions import CATALOGUE
from workers.domain.event import RuntimeEvent
from workers.domain.ids import NodeId
from workers.domain.log.topics import RUNTIME_EVENTS
from workers.domain.node_state import Progress
from workers.gateway import intake
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import LARGEST_ALERT

PATH = "/api/v1/events"
FALCO = Path(__file__).parents[1] / "data" / "falco-events.jsonl"
ALERTS: list[dict[str, Any]] = [json.loads(line) for line in FALCO.read_text().splitlines()]
ALERT: dict[str, Any] = {
    "rule": "R",
    "time": "2026-07-04T20:46:44.180672852Z",
    "hostname": "web-1",
    "output_fields": {},
}


@pytest.mark.parametrize(
    "body",
    [FALCO.read_bytes(), json.dumps(ALERTS).encode(), b"\n\n".join(json.dumps(each).encode() for each in ALERTS)],
    ids=["one a line", "a list", "one a line with gaps"],
)
def test_real_alerts_are_written_as_avro_keyed_by_host_and_their_ids_answered_in_order(body: bytes) -> None:
    gateway = FakeGateway(codec=AvroCodec())
    answer = gateway.post(PATH, content=body)
    assert answer.status_code == 202
    assert [row["event_id"] for row in answer.json()["data"]] == [each.event_id for each in gateway.events()]
    assert len(gateway.written) == 4
    for record, written in zip(gateway.written, gateway.events(), strict=True):
        assert record.topic == RUNTIME_EVENTS
        assert record.key == (written.host or written.event_id).encode()
        payload = bytes.fromhex(json.loads(record.value or b"")["payload"])
        assert AvroCodec().decode(payload, RuntimeEvent) == written


def test_one_alert_as_falcos_http_output_posts_it_is_one_event() -> None:
    gateway = FakeGateway()
    assert len(gateway.post(PATH, json=ALERTS[0]).json()["data"]) == 1


def test_the_same_alert_twice_keeps_its_id() -> None:
    gateway = FakeGateway()
    ids = {gateway.post(PATH, json=ALERT).json()["data"][0]["event_id"] for _ in range(2)}
    assert len(ids) == 1


def test_submitted_events_are_in_the_audit_chain_with_their_caller() -> None:
    gateway = FakeGateway()
    ids = [row["event_id"] for row in gateway.post(PATH, json=ALERTS).json()["data"]]
    (record,) = gateway.audit()
    assert (record.kind, record.actor) == ("handed_in", "admin")
    assert record.detail == {"events": 4, "event_id": ids[0], "last_event_id": ids[-1]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no event"),
        (b"[]", "no event"),
        (b"   \n ", "no event"),
        (b"not json", "line 1"),
        (b"\xff\xfe", "line 1"),
        (b"3", "event 1 of 1"),
        (json.dumps([ALERT, {"rule": "R"}, ALERT]).encode(), "event 2 of 3: the Falco alert has no time"),
        (json.dumps([ALERT, "x"]).encode(), "event 2 of 2: a Falco alert is a JSON object"),
        (json.dumps(ALERT).encode() + b"\n{", "line 2"),
        (json.dumps({**ALERT, "rule": ""}).encode(), "names no rule"),
        (b"[" * 5000, "line 1"),
    ],
)
def test_one_bad_event_stops_all_and_is_named(body: bytes, words: str) -> None:
    gateway = FakeGateway()
    answer = gateway.post(PATH, content=body)
    assert_error(answer, 400)
    assert words in answer.json()["message"]
    assert gateway.written == []


def test_an_alert_or_a_batch_beyond_the_limits_is_413() -> None:
    gateway = FakeGateway()
    assert_error(gateway.post(PATH, json={**ALERT, "output": "x" * LARGEST_ALERT}), 413, "too_large")
    many = b"\n".join([b'{"rule":"R","time":"2026-07-04T20:46:44Z"}'] * (intake.MOST_EVENTS + 1))
    assert_error(gateway.post(PATH, content=many), 413, "too_large")
    assert gateway.written == []


def test_a_log_that_does_not_acknowledge_is_503_and_a_retry_is_safe() -> None:
    gateway = FakeGateway()
    gateway.bus.is_down = True
    assert_error(gateway.post(PATH, json=ALERT), 503)
    gateway.bus.is_down = False
    assert gateway.post(PATH, json=ALERT).status_code == 202


def test_events_are_listed_newest_first_and_shown_with_what_they_led_to() -> None:
    gateway = FakeGateway()
    with gateway.history.begin() as tx:
        for number in range(5):
            stored = event(number, rule="R", container="ab" * 32)
            tx.put_event(stored, payload=FakeCodec().encode(stored))
    story = Story(1, event_id=event(3).event_id)
    gateway.history.put(*story.whole())
    first = gateway.get(PATH, params={"limit": 3}).json()
    rest = gateway.get(PATH, params={"limit": 3, "cursor": first["next"]}).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == [f"event-{number}" for number in (4, 3, 2, 1, 0)]
    assert rest["next"] is None
    shown = gateway.get(f"{PATH}/event-3").json()
    assert shown["executions"] == [story.id]
    assert shown["container_id"] == "ab" * 32
    assert shown["occurred_at"] == "2030-03-17T17:46:43.000000000Z"
    assert gateway.get(PATH, params={"rule": "other"}).json()["data"] == []
    assert_error(gateway.get(f"{PATH}/event-9"), 404)


def test_nodes_are_found_by_id_and_by_host_name() -> None:
    gateway = FakeGateway()
    assert_error(gateway.get(f"/api/v1/nodes/{NODE}"), 404)
    with gateway.history.begin() as tx:
        tx.put_node(heartbeat(3), payload=FakeCodec().encode(heartbeat(3)), verified=True, folded_at_ns=START_NS)
    for host in (NODE, "web-1", ""):
        (row,) = gateway.get("/api/v1/nodes", params={"host": host}).json()["data"]
        assert row["node_id"] == NODE
    assert gateway.get("/api/v1/nodes", params={"host": "web-2"}).json()["data"] == []
    shown = gateway.get(f"/api/v1/nodes/{NODE}").json()
    assert {"incarnation", "node_key", "host_names", "actions", "positions", "boot_id", "machine_key"} <= set(shown)


def test_a_node_shows_how_far_its_uploads_have_come() -> None:
    gateway = FakeGateway()
    story = Story(1)
    state = replace(heartbeat(3), gathering=(Progress(story.id, 5, 9),))
    with gateway.history.begin() as tx:
        tx.put_node(state, payload=FakeCodec().encode(state), verified=True, folded_at_ns=START_NS)
    wanted = [{"execution_id": story.id, "step": "upload", "done": 5, "size": 9}]
    assert gateway.get(f"/api/v1/nodes/{NODE}").json()["gathering"] == wanted
    assert gateway.get("/api/v1/nodes").json()["data"][0]["gathering"] == wanted


def test_the_catalogue_is_shown_as_the_actions_describe_themselves() -> None:
    gateway = FakeGateway()
    rows = {each["name"]: each for each in gateway.get("/api/v1/actions?all=true").json()["data"]}
    assert set(rows) == {action.name for action in CATALOGUE}
    row = rows["kill_process"]
    assert row == gateway.get("/api/v1/actions/KILL_PROCESS").json()
    assert row["parameters"][0]["name"] == "ancestor"
    assert row["drawbacks"]
    assert row["example_target"]["process_line"][0]["pid"] == 4711


def test_the_list_of_actions_has_what_a_node_offers_now_and_says_how_many_do() -> None:
    gateway = FakeGateway()
    names = [("a", ("kill_process", "resume_process")), ("b", ("kill_process",)), ("c", ("file_acquire",))]
    with gateway.history.begin() as tx:
        for name, actions in names:
            state = replace(heartbeat(1), node_id=NodeId(name * 32), host_names=(name,), actions=actions)
            payload = FakeCodec().encode(state)
            tx.put_node(state, payload=payload, verified=name != "c", folded_at_ns=gateway.clock.now_ns())

    def offered(query: str = "") -> dict[str, int]:
        rows = gateway.get(f"/api/v1/actions{query}").json()["data"]
        return {row["name"]: row["offered_by"] for row in rows}

    assert offered() == {"kill_process": 2, "resume_process": 1}
    assert offered("?host=b") == offered(f"?host={'b' * 32}") == {"kill_process": 1}
    assert offered("?host=c") == offered("?host=elsewhere") == {}
    assert offered("?all=true").keys() == {action.name for action in CATALOGUE}
    assert gateway.get("/api/v1/actions/kill_process").json()["offered_by"] == 2
    gateway.clock.advance(601)
    assert offered() == {}


def test_health_shows_the_position_of_history_to_callers_with_a_token() -> None:
    gateway = FakeGateway()
    shown = gateway.get("/api/v1/health").json()
    assert {"offsets", "unverified", "conflicts", "gaps", "nodes"} <= set(shown)


# An invalid request never causes an internal error.

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_fields = st.dictionaries(
    st.sampled_from(["proc.pid", "proc.pid.ts", "proc.ppid", "container.id", "fd.name", "evt.time", "proc.apid[2]"])
    | st.text(max_size=8),
    _json,
    max_size=6,
)
_alert = st.fixed_dictionaries(
    {"rule": _json | st.just("R"), "time": _json | st.just("2026-07-04T20:46:44.1Z")},
    optional={"output_fields": _fields | _json, "hostname": _json, "tags": _json, "uuid": _json, "priority": _json},
)
_body = st.fixed_dictionaries(
    {"action": _json | st.just("kill_process"), "host": _json | st.just("h")},
    optional={
        "target": _json | st.fixed_dictionaries({"process": st.fixed_dictionaries({"pid": _json})}),
        **dict.fromkeys(("parameters", "reason", "dry_run", "ttl_s", "undo_after_s", "event_id", "caller_id"), _json),
    },
)


def accepted_or_refused(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        assert_error(answer, 400)


_GATEWAY = FakeGateway(codec=AvroCodec())


@given(_alert | _json | st.lists(_alert, max_size=3))
def test_no_json_makes_the_ingestion_fail(alerts: object) -> None:
    answer = _GATEWAY.post(PATH, content=json.dumps(alerts).encode())
    accepted_or_refused(answer, 202)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_ingestion_fail(body: bytes) -> None:
    answer = _GATEWAY.post(PATH, content=body)
    accepted_or_refused(answer, 202)


@given(_body | _json)
def test_no_json_makes_a_request_fail(body: object) -> None:
    answer = _GATEWAY.post("/api/v1/executions", json=None, content=json.dumps(body).encode(), headers=_HEADERS)
    accepted_or_refused(answer, 201)


@given(
    st.sampled_from(["/api/v1/executions", PATH, "/api/v1/nodes"]),
    st.dictionaries(
        st.sampled_from(["host", "rule", "since", "from", "to", "limit", "cursor", "outcome", "stage", "container"]),
        st.text(max_size=300),
    ),
)
def test_no_query_makes_a_list_fail(path: str, query: dict[str, str]) -> None:
    encodable = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    answer = _GATEWAY.get(path, params=encodable)
    accepted_or_refused(answer, 200)


@given(st.text(max_size=60), st.sampled_from(["GET", "POST", "DELETE", "PUT"]))
def test_no_path_makes_anything_fail(path: str, method: str) -> None:
    plain = path.encode("utf-8", "replace").decode()
    answer = _GATEWAY.send(method, f"/api/v1/executions/{_quoted(plain)}")
    assert answer.status_code in (200, 201, 400, 404, 405)


_HEADERS = {"Authorization": "Bearer a token for tests", "Content-Type": "application/json"}


def _quoted(path: str) -> str:
    return quote(path, safe="/")


@pytest.mark.parametrize(("days", "warns"), [(90, False), (59, True), (-1, True)])
def test_health_warns_before_the_keyset_expires(days: int, warns: bool) -> None:
    gateway = FakeGateway(expires_at_ns=START_NS + days * 86_400 * 10**9)
    shown = gateway.get("/api/v1/health").json()
    assert (shown["keyset_version"], shown["keyset_days_left"]) == (1, days)
    assert bool(shown["warnings"]) == warns

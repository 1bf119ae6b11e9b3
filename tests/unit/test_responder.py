"""The responder requests what its rules define, once for each cause, whatever crashes, repeats or is malformed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.actions import FAKE_ACTIONS
from tests.fakes.bus import FakeBus
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.outbox import RecordedOutbox, RepeatingRelay
from tests.fakes.signing import fake_keyset
from tests.fakes.telemetry import FakeTelemetry
from workers.domain.errors import TransientFailure
from workers.domain.event import ProcessRef, RuntimeEvent
from workers.domain.falco.alert import event_from
from workers.domain.ids import EventId, ExecutionId
from workers.domain.log.record import OutRecord, Record
from workers.domain.log.topics import AUDIT, DEAD_LETTERS, FALCO_EVENTS, REQUESTS_RULES, RUNTIME_EVENTS
from workers.domain.node_state import DeadLetter
from workers.domain.request import ActionRequest
from workers.domain.rules.rule import Rules
from workers.domain.target import ProcessTarget
from workers.domain.trust.audit import GENESIS, AuditRecord, link
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, PublicKey
from workers.responder.decider import Decider
from workers.responder.loop import Loop
from workers.responder.responder import FAILPOINTS, HELD_UP, Responder
from workers.system.rule_files import parse_rules
from workers.wire.avro import AvroCodec
from workers.wire.event_reader import DetectorEvents
from workers.wire.recorder import ChainRecorder
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

CODEC = AvroCodec()
PRIVATE = PrivateKey.generate()
GATEWAY_KEY, NODE_KEY = PrivateKey.generate(), PrivateKey.generate()
NODE = "0a" * 16
KEYSET = fake_keyset(
    PublicKey(PRIVATE.key_id, PRIVATE.public, KeyRole.RESPONDER, "responder"),
    PublicKey(GATEWAY_KEY.key_id, GATEWAY_KEY.public, KeyRole.GATEWAY, "gateway"),
    PublicKey(NODE_KEY.key_id, NODE_KEY.public, KeyRole.NODE, NODE),
)
SEALER = EnvelopeSigner(PRIVATE, CODEC)
GATEWAY = EnvelopeSigner(GATEWAY_KEY, CODEC)
OPENER = EnvelopeVerifier(KEYSET, CODEC, clock=FakeClock())
REAL = (Path(__file__).parent.parent / "data" / "falco-events.jsonl").read_bytes().splitlines()
KILL = {"name": "kill", "match": {"rules": ["Shell"]}, "steps": [{"action": "kill_process"}]}
ANYTHING = {"name": "anything", "match": {"rules": ["*"]}, "steps": [{"action": "kill_process"}]}


def rules(*given_rules: dict[str, Any]) -> Rules:
    return parse_rules({"test": {"rules": list(given_rules)}}, FAKE_ACTIONS)


class World:
    """A log, time, and one responder after the other over them."""

    def __init__(self, *given_rules: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.log = FakeBus(
            {FALCO_EVENTS: 2, RUNTIME_EVENTS: 2, REQUESTS_RULES: 2, AUDIT: 1, DEAD_LETTERS: 1}, clock=self.clock
        )
        self.rules = rules(*(given_rules or (KILL,)))
        self.telemetry = FakeTelemetry()
        self.failpoints = FakeFailpoints()
        self.starts = 0
        self.unsigned_topics: tuple[str, ...] = (FALCO_EVENTS,)
        self.verifier = OPENER
        self.reader = self.log.group_reader("responder")
        self.start()

    def start(self, *, most: int = 100_000, recorder: ChainRecorder | None = None) -> None:
        """A new process; whatever the last one held in memory is gone."""
        self.reader.close()
        self.starts += 1
        self.outgoing = RecordedOutbox(f"responder/{self.starts}", most=most)
        self.reader = self.log.group_reader("responder")
        self.writer = self.log.writer()
        self.relay = RepeatingRelay(self.outgoing, self.writer)
        decider = Decider(
            rules=self.rules,
            oldest_event_s=300,
            events=DetectorEvents(CODEC, self.verifier),
            signer=SEALER,
            recorder=recorder or ChainRecorder("responder", signer=SEALER, codec=CODEC),
            outgoing=self.outgoing,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self.responder = Responder(
            decider=decider,
            oldest_event_s=300,
            unsigned_topics=self.unsigned_topics,
            reader=self.reader,
            outgoing=self.outgoing,
            relay=self.relay,
            clock=self.clock,
            failpoints=self.failpoints,
        )
        self.responder.start()

    def falco(self, **changes: Any) -> Record:
        """One Falco alert of now, on its topic."""
        return self.raw(json.dumps(self.alert(**changes)).encode())

    def alert(self, **changes: Any) -> dict[str, Any]:
        fields = {"proc.pid": 4711, "proc.pid.ts": self.clock.now_ns() - 5, "evt.time": self.clock.now_ns()}
        alert = {"rule": "Shell", "priority": "Notice", "hostname": "web-1", "output_fields": fields, **changes}
        seconds, nanoseconds = divmod(self.clock.now_ns(), 10**9)
        return {"time": f"{stamp(seconds)}.{nanoseconds:09}Z", **alert}

    def raw(self, value: bytes | None, topic: str = FALCO_EVENTS) -> Record:
        return self.log.append(OutRecord(topic, None, value))

    def run(self, steps: int = 6) -> None:
        for _ in range(steps):
            self.responder.step(0.0)
            self.clock.advance(0.6)

    def requests(self) -> list[ActionRequest]:
        values = self.log.values(REQUESTS_RULES)
        return [OPENER.verify(value or b"", PayloadType.REQUEST, ActionRequest).record for value in values]

    def ids(self) -> set[ExecutionId]:
        return {step.execution_id for request in self.requests() for step in request.steps}

    def audit(self, kind: str = "") -> list[AuditRecord]:
        opened = [OPENER.verify(value or b"", PayloadType.AUDIT, AuditRecord) for value in self.log.values(AUDIT)]
        return [each.record for each in opened if kind in ("", each.record.kind)]

    def letters(self) -> list[DeadLetter]:
        return [CODEC.decode(value or b"", DeadLetter) for value in self.log.values(DEAD_LETTERS)]

    def committed(self) -> int:
        """How many events the group is done with."""
        return sum(
            offset for (_, topic, _), offset in self.log.committed.items() if topic in (FALCO_EVENTS, RUNTIME_EVENTS)
        )


def stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.fixture
def world() -> World:
    return World()


def test_a_matching_event_becomes_one_request_under_its_first_executions_key(world: World) -> None:
    event = event_from(json.loads(world.falco().value or b""))
    world.run()
    (request,) = world.requests()
    (record,) = world.log.records(REQUESTS_RULES)
    assert record.key == request.steps[0].execution_id.encode()
    assert request.host == "web-1"
    assert request.causation.event_id == event.event_id
    assert request.detected_at_ns == event.occurred_at_ns
    assert request.steps[0].target == ProcessTarget(event.process_line, event.occurred_at_ns)
    assert request.cooldown_key.startswith("kill/web-1/process/4711/")


def test_the_request_goes_out_in_the_very_step_that_read_the_event(world: World) -> None:
    world.run()
    world.falco()
    world.responder.step(0.0)
    assert len(world.requests()) == 1


def test_a_request_carries_the_trace_of_the_event(world: World) -> None:
    parent = ("traceparent", b"00-000000000000000000000000000000ab-00000000000000cd-01")
    world.log.append(OutRecord(FALCO_EVENTS, None, json.dumps(world.alert()).encode(), (parent,)))
    world.run()
    (record,) = world.log.records(REQUESTS_RULES)
    assert dict(record.headers)["traceparent"].split(b"-")[1].endswith(b"ab")


def test_events_of_other_detectors_are_answered_too(world: World) -> None:
    event = RuntimeEvent(
        EventId("e1"), "other", "s", "Shell", "notice", world.clock.now_ns(), "web-1", process_line=(ProcessRef(4711),)
    )
    world.raw(GATEWAY.sign(PayloadType.EVENT, event).value, RUNTIME_EVENTS)
    world.run()
    assert [request.causation.event_id for request in world.requests()] == ["e1"]


def test_what_matches_no_rule_leaves_no_trace_but_progress(world: World) -> None:
    world.falco(rule="Other")
    world.run()
    assert world.requests() == []
    assert [record.kind for record in world.audit()] == ["started"]
    assert world.committed() == 1


def test_the_real_alerts_ask_for_nothing_and_are_refused_with_the_reason() -> None:
    world = World(ANYTHING)
    for line in REAL:
        world.raw(line)
    world.run()
    assert world.requests() == []
    assert world.letters() == []
    reasons = [record.detail["reason"] for record in world.audit("refused")]
    assert set(reasons) <= {"too_old", "from_the_future", "no_host", "lacks_field"}
    assert len(reasons) == 3, "the internal one is not even refused"
    assert world.committed() == 4


def test_a_refusal_is_audited_with_what_the_event_lacks(world: World) -> None:
    world.falco(output_fields={})
    world.run()
    (refused,) = world.audit("refused")
    assert refused.detail["reason"] == "lacks_field"
    assert "proc.pid" in str(refused.detail["message"])
    assert refused.actor == "rule/kill"


def test_the_audit_is_one_unbroken_chain_that_begins_with_the_start(world: World) -> None:
    world.falco()
    world.raw(b"junk")
    world.run()
    previous, kinds = GENESIS, []
    for number, value in enumerate(world.log.values(AUDIT)):
        opened = OPENER.verify(value or b"", PayloadType.AUDIT, AuditRecord)
        assert (opened.record.record_no, opened.record.previous) == (number, previous)
        previous = link(opened.payload, previous)
        kinds.append(opened.record.kind)
    assert sorted(kinds) == ["dead_letter", "requested", "started"]


@pytest.mark.parametrize("poison", [None, b"", b"junk", b"[" * 9999, b'{"rule": 1}', b"\xc3\x01" + b"0" * 20, b"{}"])
@pytest.mark.parametrize("topic", [FALCO_EVENTS, RUNTIME_EVENTS])
def test_poison_becomes_a_dead_letter_and_delays_nothing(world: World, poison: bytes | None, topic: str) -> None:
    world.raw(poison, topic)
    world.falco()
    world.run()
    (letter,) = world.letters()
    assert (letter.topic, letter.value) == (topic, poison)
    assert letter.reason
    assert len(world.requests()) == 1
    assert world.committed() == 2


def test_a_bug_costs_the_event_that_met_it_only() -> None:
    class Broken(ChainRecorder):
        def audit(self, tx: Any, kind: str, **more: Any) -> None:
            if kind == "requested" and "Shell 2" in str(more):
                raise ZeroDivisionError
            super().audit(tx, kind, **more)

    world = World(ANYTHING)
    world.start(recorder=Broken("responder", signer=SEALER, codec=CODEC))
    for rule in ("Shell 1", "Shell 2", "Shell 3"):
        world.falco(rule=rule)
    world.run()
    assert len(world.requests()) == 2, "the broken one left no half of itself"
    (letter,) = world.letters()
    assert (letter.reason, letter.worker) == ("internal", "responder")
    assert "bug" in world.telemetry.events("error")


def test_a_gap_is_audited(world: World) -> None:
    world.falco()
    world.run()
    for _ in range(4):
        world.falco()
    for partition in (0, 1):
        world.log.truncate(FALCO_EVENTS, partition=partition, below=2)
    world.run()
    assert {record.detail["topic"] for record in world.audit("gap")} == {FALCO_EVENTS}


def test_a_new_group_reads_from_five_minutes_ago_and_no_older_event_triggers() -> None:
    world = World()
    world.log.committed.clear()
    world.falco(hostname="before")
    world.clock.advance(301)
    world.falco(hostname="after")
    world.start()
    world.run()
    assert [request.host for request in world.requests()] == ["after"]
    assert world.audit("refused") == []


def test_an_old_event_that_arrives_late_does_not_trigger(world: World) -> None:
    late = world.alert()
    world.clock.advance(301)
    world.raw(json.dumps(late).encode())
    world.run()
    assert world.requests() == []
    assert [record.detail["reason"] for record in world.audit("refused")] == ["too_old"]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_crash_anywhere_requests_the_very_same_executions(failpoint: str, nth: int) -> None:
    calm, stormy = World(), World()
    for world in (calm, stormy):
        for number in range(3):
            world.falco(output_fields={"proc.pid": 100 + number})
    calm.run()
    stormy.failpoints.arm(failpoint, nth=nth)
    for _ in range(4):
        survive(stormy, stormy.run)
    assert stormy.ids() == calm.ids()
    assert len(calm.ids()) == 3
    assert stormy.committed() == 3


def test_nothing_is_lost_and_nothing_more_is_read_while_the_log_is_unreachable(world: World) -> None:
    world.run()
    world.falco()
    world.log.fail_next = [("timed_out", False)] * 2
    assert world.responder.step(0.0) == 1
    world.falco()
    world.log.fail_next = [("timed_out", False)] * 2
    assert world.responder.step(0.0) == HELD_UP
    assert world.committed() == 0
    world.run()
    assert len(world.requests()) == 2
    assert world.committed() == 2


def test_an_outbox_that_fills_up_in_the_middle_of_a_batch_loses_nothing() -> None:
    world = World()
    world.start(most=4)
    for number in range(20):
        world.falco(output_fields={"proc.pid": 100 + number})
    met = set()
    for _ in range(60):
        try:
            world.responder.step(0.0)
        except TransientFailure as error:
            met.add(error.reason)
        world.clock.advance(0.6)
    assert met == {"outbox_full"}
    assert len(world.ids()) == 20
    assert world.committed() == 20


def strike(world: World, fault: str, number: int) -> None:
    """One fault of the world around the responder."""
    match fault:
        case "crash":
            world.failpoints.arm(FAILPOINTS[number % len(FAILPOINTS)])
        case "replay":
            world.log.replay(FALCO_EVENTS)
        case "restart":
            world.start()
        case "down":
            world.log.fail_next = [("timed_out", number % 2 == 0)] * 3


def survive(world: World, work: Callable[[], object]) -> None:
    """Work, and start again where it crashed."""
    try:
        work()
    except Crash:
        world.start()


EVENTS = st.lists(st.tuples(st.integers(2, 5), st.sampled_from(["Shell", "Other", "junk"])), min_size=1, max_size=8)


@settings(max_examples=40)
@given(EVENTS, st.lists(st.sampled_from(["crash", "replay", "restart", "down", "step"]), max_size=8))
def test_any_redelivery_gives_the_same_set_of_ids(events: list[tuple[int, str]], faults: list[str]) -> None:
    calm, stormy = World(ANYTHING, KILL), World(ANYTHING, KILL)
    for world in (calm, stormy):
        for pid, rule in events:
            world.raw(b"junk") if rule == "junk" else world.falco(rule=rule, output_fields={"proc.pid": pid})
    calm.run()
    for number, fault in enumerate(faults):
        strike(stormy, fault, number)
        survive(stormy, lambda: stormy.responder.step(0.0))
    for _ in FAILPOINTS:
        survive(stormy, stormy.run)
    assert stormy.ids() == calm.ids()
    assert {request.cooldown_key for request in stormy.requests()} == {r.cooldown_key for r in calm.requests()}


@pytest.mark.fault("F28")
def test_our_own_audit_fed_back_to_a_rule_that_matches_everything_gives_exactly_one_action() -> None:
    """T17: Wazuh's #14997 as a regression test, with the echo in every shape it can come in."""
    world = World(ANYTHING)
    world.falco()
    echoed = 0
    for _ in range(12):
        world.run(2)
        audit, letters = world.log.values(AUDIT), world.log.values(DEAD_LETTERS)
        for value in audit[echoed:]:
            world.raw(value, RUNTIME_EVENTS)
            world.raw(value, FALCO_EVENTS)
        for record in world.audit()[echoed:]:
            fields = {"proc.pid": 4711, "douse.execution_id": record.execution_id}
            world.falco(source="douse", rule=record.kind, output_fields=fields)
        for value in letters:
            world.raw(value, RUNTIME_EVENTS)
        echoed = len(audit)
    assert len(world.requests()) == 1
    assert world.telemetry.counts["responder.loop_suppressed"] >= 1
    assert world.letters() == [], "a dead letter of an echo would echo"
    assert [record.kind for record in world.audit()] == ["started", "requested"]


def test_an_echo_by_execution_id_alone_is_suppressed_too() -> None:
    world = World(ANYTHING)
    world.falco(output_fields={"proc.pid": 4711, "douse.execution_id": "01980000-0000-7000-8000-000000000000"})
    world.run()
    assert world.requests() == []
    assert world.telemetry.counts["responder.loop_suppressed"] == 1


class StopAfter:
    """A stop signal that is set after some questions; waiting lets fake time pass."""

    def __init__(self, clock: FakeClock, questions: int) -> None:
        self._clock = clock
        self._left = questions
        self.waited: list[float] = []

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        self._clock.advance(timeout or 0.0)
        return self._left <= 0


def loop_of(world: World) -> Loop:
    return Loop(world.responder, telemetry=world.telemetry, close=world.reader.close)


def test_the_loop_answers_then_commits_and_leaves_when_stopped(world: World) -> None:
    world.falco()
    loop_of(world).run(StopAfter(world.clock, 3))
    assert len(world.requests()) == 1
    assert world.committed() == 1


def test_the_loop_waits_for_a_log_that_is_unreachable(world: World) -> None:
    world.falco()
    world.log.down()
    stop = StopAfter(world.clock, 3)
    loop_of(world).run(stop)
    assert stop.waited
    assert world.requests() == []
    world.log.up()
    world.start()
    world.run()
    assert len(world.requests()) == 1, "what was not committed is read again"


def test_a_threads_event_is_a_stop_signal(world: World) -> None:
    stop = threading.Event()
    stop.set()
    loop_of(world).run(stop)
    assert world.requests() == []


def test_a_change_of_rules_does_not_change_ids_of_the_rule_that_stayed() -> None:
    one, other = World(KILL), World(ANYTHING, {**KILL, "cooldown": "1h", "reason": "another reason"})
    for world in (one, other):
        world.falco()
        world.run()
    assert one.ids() < other.ids()


def an_event(world: World, host: str = "web-1") -> RuntimeEvent:
    return RuntimeEvent(
        EventId(f"event-of-{host}"),
        "detector",
        "source",
        "Shell",
        "notice",
        world.clock.now_ns(),
        host,
        process_line=(ProcessRef(4711, -5),),
    )


@pytest.mark.parametrize(
    ("host", "signer", "reason"),
    [
        ("web-1", None, "unsigned"),
        ("web-1", EnvelopeSigner(PrivateKey.generate(), CODEC), "unknown_key"),
        ("web-1", SEALER, "wrong_role"),
        ("web-1", EnvelopeSigner(NODE_KEY, CODEC), "not_its_node"),
        ("0b" * 16, EnvelopeSigner(NODE_KEY, CODEC), "not_its_node"),
        ("web-1", GATEWAY, ""),
        (NODE, EnvelopeSigner(NODE_KEY, CODEC), ""),
    ],
    ids=["unsigned", "unknown key", "another role", "of another host", "of another node", "gateway", "its own node"],
)
def test_an_event_triggers_only_under_the_key_of_a_gateway_or_of_its_own_node(
    host: str, signer: EnvelopeSigner | None, reason: str
) -> None:
    world = World()
    event = an_event(world, host)
    value = CODEC.encode(event) if signer is None else signer.sign(PayloadType.EVENT, event).value
    world.raw(value, RUNTIME_EVENTS)
    world.run()
    assert [letter.reason for letter in world.letters()] == ([reason] if reason else [])
    assert len(world.requests()) == (0 if reason else 1)
    assert len(world.audit("dead_letter")) == (1 if reason else 0)


def test_a_signed_event_is_believed_on_a_raw_topic_too_and_an_unsigned_one_of_ours_on_none() -> None:
    world = World()
    event = an_event(world)
    world.raw(CODEC.encode(event), FALCO_EVENTS)
    world.run()
    assert (world.requests(), [letter.reason for letter in world.letters()]) == ([], ["unsigned"])
    world.raw(GATEWAY.sign(PayloadType.EVENT, event).value, FALCO_EVENTS)
    world.run()
    assert len(world.requests()) == 1


def test_a_raw_topic_is_read_only_where_the_settings_name_it() -> None:
    world = World()
    world.unsigned_topics = ()
    world.start()
    world.falco()
    world.run()
    assert world.requests() == []
    assert world.audit("started")[-1].detail["sources"] == RUNTIME_EVENTS


def test_events_wait_while_the_keyset_has_expired_and_none_is_lost() -> None:
    world = World()
    expired = fake_keyset(*KEYSET.keys.values(), expires_at_ns=world.clock.now_ns())
    world.verifier = EnvelopeVerifier(expired, CODEC, clock=world.clock)
    world.start()
    world.raw(GATEWAY.sign(PayloadType.EVENT, an_event(world)).value, RUNTIME_EVENTS)
    for _ in range(4):
        with pytest.raises(TransientFailure, match="expired"):
            world.responder.step(0.0)
        world.clock.advance(2)
    assert (world.requests(), world.letters(), world.committed()) == ([], [], 0)
    world.verifier = OPENER
    world.start()
    world.run()
    assert len(world.requests()) == 1

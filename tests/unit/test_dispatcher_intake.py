"""Requests become commands: at most one per execution id, only for a known node, only when well-formed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.clock import START_NS, FakeClock
from tests.fakes.failpoints import Crash
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.unit.dispatching import (
    BORN,
    COMMANDS,
    DISPATCHER_KEY,
    GATEWAY_KEY,
    KEYSET,
    NODE,
    NODE_KEYS,
    OPERATOR_KEY,
    OTHER,
    PARTITION,
    REQUESTER_KEYS,
    RESPONDER_KEY,
    SECOND,
    World,
    a_rule,
    about,
    an_id,
    execute,
    node_key,
    person,
    steps,
    target,
)
from workers.dispatcher.dispatcher import FAILPOINTS
from workers.domain.command import parameters_digest
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId
from workers.domain.log import topics
from workers.domain.log.record import Gap, LogPosition
from workers.domain.outcome import Outcome, Stage
from workers.domain.policy import Decision, Hold, PolicyState, Refuse, decide
from workers.domain.request import NO_CAUSE, ActionRequest, Step, Verb
from workers.domain.target import ContainerTarget, ProcessTarget
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, PublicKey

ONE = an_id("one", 0)


@pytest.fixture
def world() -> World:
    made = World()
    made.beat()
    return made


def test_a_request_becomes_one_signed_command_for_exactly_that_node(world: World) -> None:
    request = execute(reason="it mines", dry_run=True, caller_id="c-1", detected_at_ns=5)
    world.ask(request)
    (command,) = world.commands()
    assert (command.command_id, command.action, command.target) == (ONE, "kill", target())
    assert (command.node_id, command.node_key, command.incarnation) == (NODE, node_key(), BORN)
    assert (command.issued_at_ns, command.expires_at_ns) == (START_NS, START_NS + 300 * SECOND)
    assert (command.actor, command.reason, command.dry_run) == (person(), "it mines", True)
    assert (command.caller_id, command.detected_at_ns, command.approval_class) == ("c-1", 5, "auto")
    assert command.parameters_sha256 == parameters_digest({})
    (record,) = world.out(COMMANDS)
    assert (record.key, record.partition) == (NODE.encode(), PARTITION)
    assert record.value is not None
    opened = world.verifier.verify(record.value, PayloadType.COMMAND, type(command))
    assert opened.signatory.key_id == DISPATCHER_KEY.key_id
    requested, dispatched = world.results(ONE)
    assert (requested.stage, requested.seq, requested.request) == (Stage.REQUESTED, 0, request)
    assert (dispatched.stage, dispatched.seq, dispatched.node_id) == (Stage.DISPATCHED, 2, NODE)
    assert (dispatched.deadline_ns, dispatched.command_sha256) == (command.expires_at_ns, opened.sha256)


def test_the_trace_of_the_request_is_on_everything_it_leads_to(world: World) -> None:
    world.ask(execute())
    traces = {record.headers[0][1].split(b"-")[1] for record in world.out(topics.RESULTS) + world.out(COMMANDS)}
    assert len(traces) == 1


def test_a_host_name_is_resolved_in_any_case(world: World) -> None:
    world.ask(execute(host="HOST-1"))
    assert [command.node_id for command in world.commands()] == [NODE]


@pytest.mark.parametrize("host", ["", "elsewhere", "host", "host-10", OTHER, '"', "host-1\0"])
def test_an_unknown_host_is_rejected(world: World, host: str) -> None:
    world.ask(execute(host=host))
    assert world.ends() == {ONE: (Outcome.REJECTED, "kill_error_unknown_node")}
    assert world.commands() == []


def test_a_name_that_two_nodes_had_before_claims_were_numbered_is_rejected_and_both_are_listed(world: World) -> None:
    world.beat(OTHER, host_names=("host-1",))
    with world.ledger.begin() as tx:
        for key, _ in tx.scan("host", '"host-1"'):
            tx.put("host", key, b"")
    world.ask(execute(host="host-1"), execute("two"))
    (rejected,) = (result for result in world.results(ONE) if result.stage is Stage.ENDED)
    assert rejected.code == "kill_error_ambiguous_node"
    assert NODE in rejected.message
    assert OTHER in rejected.message
    assert [command.command_id for command in world.commands()] == [an_id("two", 0)]


def test_a_node_in_a_zone_that_is_not_served_is_rejected(world: World) -> None:
    world.beat(OTHER, zone="elsewhere")
    world.ask(execute(host=OTHER))
    assert world.ends() == {ONE: (Outcome.REJECTED, "kill_error_unknown_zone")}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (execute("one", "dance"), "dance_error_unknown_action"),
        (execute("one", "go_on"), "go_on_error_undo_only"),
        (execute(steps=steps("one", "halt", parameters={"grace": 11})), "halt_error_invalid_parameters"),
        (execute(steps=steps("one", "halt", parameters={"fast": 1})), "halt_error_invalid_parameters"),
        (execute(steps=(Step(ONE, "kill", None),)), "kill_error_invalid_target"),
        (execute(steps=(Step(ONE, "kill", ContainerTarget("a" * 64, 1)),)), "kill_error_invalid_target"),
        (execute(steps=(Step(ONE, "kill", ProcessTarget((), 1)),)), "kill_error_invalid_target"),
        (execute(steps=(Step(ONE, "kill", ProcessTarget((ProcessRef(-1),), 1)),)), "kill_error_invalid_target"),
        (execute(actor=a_rule(), steps=(Step(ONE, "kill", target(observed_at_ns=0)),)), "kill_error_unbound_target"),
        (execute(actor=a_rule(), causation=replace(NO_CAUSE, depth=1)), "kill_error_automation_depth"),
        (execute(requested_at_ns=START_NS - 301 * SECOND), "kill_error_expired"),
        (execute(requested_at_ns=START_NS - 11 * SECOND, ttl_s=10), "kill_error_expired"),
    ],
)
def test_what_may_not_be_done_is_ended_with_its_reason_and_nothing_is_signed(
    world: World, request_: ActionRequest, reason: str
) -> None:
    world.ask(request_)
    outcome = Outcome.EXPIRED if reason.endswith("expired") else Outcome.REJECTED
    assert world.ends() == {ONE: (outcome, reason)}
    assert world.stages(ONE) == ["REQUESTED", "ENDED"]
    assert world.commands() == []
    assert [record.kind for record in world.audit()] == [outcome.value.lower()]


def test_a_request_from_the_future_lives_no_longer_than_any_other(world: World) -> None:
    world.ask(execute(requested_at_ns=START_NS + 3600 * SECOND))
    assert world.commands()[0].expires_at_ns == START_NS + 300 * SECOND


@pytest.mark.parametrize(
    ("request_", "topic", "reason"),
    [
        (execute(actor=a_rule()), topics.REQUESTS_PEOPLE, "wrong_principal"),
        (execute(), topics.REQUESTS_RULES, "wrong_principal"),
        (about(Verb.CANCEL, ONE, actor=a_rule()), topics.REQUESTS_RULES, "wrong_principal"),
        (execute(actor=person("")), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(steps=()), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute("one", *["kill"] * 11), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(steps=steps("one", "kill") * 2), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(steps=(Step(ExecutionId("1"), "kill", target()),)), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute("one", "rm -rf"), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(ttl_s=-1), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(requested_at_ns=0), topics.REQUESTS_PEOPLE, "invalid_request"),
        (execute(reason="x" * 1025), topics.REQUESTS_PEOPLE, "invalid_request"),
        (about(Verb.CANCEL, ONE), topics.REQUESTS_PEOPLE, "unknown_execution"),
        (about(Verb.APPROVE, ONE), topics.REQUESTS_PEOPLE, "unknown_execution"),
        (about(Verb.CANCEL, ExecutionId("x")), topics.REQUESTS_PEOPLE, "invalid_request"),
        (about(Verb.UNDO, ONE, steps=()), topics.REQUESTS_PEOPLE, "invalid_request"),
    ],
)
def test_what_is_no_request_becomes_a_dead_letter(
    world: World, request_: ActionRequest, topic: str, reason: str
) -> None:
    world.ask(request_, topic=topic)
    assert [letter.reason for letter in world.dead_letters()] == [reason]
    assert world.results() == []
    assert world.commands() == []


def test_bytes_that_are_no_request_become_dead_letters_and_delay_nothing(world: World) -> None:
    junk = [b"", b"\xc3\x01junk", None, b"x" * 70_000]
    records = [world.record(topics.REQUESTS_PEOPLE, value) for value in junk]
    world.dispatcher.take([*records, world.request_record(execute())])
    assert [letter.reason for letter in world.dead_letters()] == ["not_an_envelope"] * 3 + ["oversize"]
    assert len(world.commands()) == 1
    assert world.ledger.next_offset(records[0].position) == 5
    world.dispatcher.take(records)
    assert len(world.dead_letters()) == 4


@pytest.mark.parametrize(
    ("topic", "signed_by"),
    [
        (topics.REQUESTS_PEOPLE, RESPONDER_KEY),
        (topics.REQUESTS_RULES, GATEWAY_KEY),
        *((topic, key) for topic in REQUESTER_KEYS for key in (NODE_KEYS[NODE], DISPATCHER_KEY, OPERATOR_KEY)),
        *((topic, fake_key("projector", KeyRole.WORKER)) for topic in REQUESTER_KEYS),
    ],
)
@pytest.mark.parametrize("verb", [Verb.EXECUTE, Verb.UNDO, Verb.CANCEL])
def test_a_request_counts_only_under_the_key_of_the_role_that_its_topic_belongs_to(
    world: World, topic: str, signed_by: PublicKey, verb: Verb
) -> None:
    world.services = replace(world.services, verifier=FakeVerifier(fake_keyset(*KEYSET.keys.values(), signed_by)))
    world.dispatcher = world.another_dispatcher(decide=holding)
    world.ask(execute())
    actor = person() if topic == topics.REQUESTS_PEOPLE else a_rule()
    request = execute("two", actor=actor) if verb is Verb.EXECUTE else about(verb, ONE, actor=actor)
    world.dispatcher.take([world.request_record(request, topic=topic, signed_by=signed_by)])
    assert [letter.reason for letter in world.dead_letters()] == ["wrong_role"]
    assert [record.kind for record in world.audit()] == ["held", "dead_letter"]
    assert world.ends() == {}
    assert {result.execution_id for result in world.results()} == {ONE}


def test_an_unsigned_request_a_foreign_key_and_a_changed_byte_are_dead_letters_that_nothing_was_decoded_of(
    world: World,
) -> None:
    unsigned = world.record(topics.REQUESTS_PEOPLE, world.codec.encode(execute("a")))
    foreign = world.request_record(execute("b"), signed_by=fake_key("mallory", KeyRole.GATEWAY))
    value = world.request_record(execute("c")).value or b""
    changed = world.record(topics.REQUESTS_PEOPLE, value.replace(b'"sig": "', b'"sig": "0'))
    event = FakeSigner(GATEWAY_KEY, world.codec).sign(PayloadType.EVENT, execute("d"))
    other_type = world.record(topics.REQUESTS_PEOPLE, event.value)
    world.dispatcher.take([unsigned, foreign, changed, other_type])
    reasons = ["not_an_envelope", "unknown_key", "bad_signature", "wrong_type"]
    assert [letter.reason for letter in world.dead_letters()] == reasons
    assert [record.kind for record in world.audit()] == ["dead_letter"] * 4
    assert world.results() == []


def test_requests_wait_while_the_keyset_has_expired_and_none_is_lost(world: World) -> None:
    expired = FakeVerifier(fake_keyset(*KEYSET.keys.values(), expires_at_ns=START_NS), world.codec, clock=world.clock)
    waiting = world.another_dispatcher(verifier=expired)
    record = world.request_record(execute())
    with pytest.raises(TransientFailure) as caught:
        waiting.take([record])
    assert caught.value.reason == "keyset_expired"
    assert world.ledger.next_offset(record.position) is None
    assert world.dead_letters() == []
    world.dispatcher.take([record])
    assert [command.command_id for command in world.commands()] == [ONE]


@pytest.mark.parametrize("after_days", [0, 5.9, 6.1, 7.1, 8.5, 400])
def test_a_signed_request_that_is_written_again_changes_nothing_however_long_afterwards(
    world: World, after_days: float
) -> None:
    world.ask(execute())
    world.node_reports(ONE)
    world.ask(about(Verb.UNDO, ONE))
    for _ in range(3):
        world.clock.advance(after_days * 86_400 / 3)
        world.dispatcher.tick()
    world.beat()
    before = [(record.topic, record.value) for record in (*world.out(COMMANDS), *world.out(topics.RESULTS))]
    world.ask(execute(), about(Verb.UNDO, ONE))
    world.dispatcher.take([world.request_record(execute())])
    assert [(r.topic, r.value) for r in (*world.out(COMMANDS), *world.out(topics.RESULTS))] == before
    assert {letter.reason for letter in world.dead_letters()} == ({"too_old"} if after_days > 6 else set())


def test_a_request_from_too_far_ahead_could_outlive_its_own_memory_and_is_refused(world: World) -> None:
    world.ask(execute(requested_at_ns=START_NS + 26 * 3600 * SECOND))
    assert [letter.reason for letter in world.dead_letters()] == ["too_far_ahead"]
    assert world.results() == []


def test_the_payload_alone_is_kept_and_carried_on_by_requested(world: World) -> None:
    request = execute(reason="it mines")
    world.ask(request)
    assert world.results(ONE)[0].request == request
    with world.ledger.begin() as ledger:
        assert ledger.get("request", ONE) == world.codec.encode(request)


def test_a_hundred_identical_requests_of_a_rule_are_one_command(world: World) -> None:
    for _ in range(100):
        world.ask(execute(actor=a_rule()))
    assert len(world.commands()) == 1
    assert world.stages(ONE) == ["REQUESTED", "DISPATCHED"]


def test_a_request_under_another_ones_id_is_a_dead_letter(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    taken = an_id("one", 1)
    world.ask(execute(steps=(Step(taken, "kill", target()),)))
    world.ask(execute(steps=(*steps("new", "kill"), Step(taken, "kill", target()))))
    world.ask(execute("one", "kill", "kill", "kill"))
    assert [letter.reason for letter in world.dead_letters()] == ["id_taken"] * 3
    assert [command.command_id for command in world.commands()] == [ONE]


def test_a_cooldown_lets_one_through_and_then_the_next(world: World) -> None:
    def rule(cause: str, **more: Any) -> ActionRequest:
        cooled = execute(cause, actor=a_rule(), cooldown_key="k", cooldown_s=60, requested_at_ns=world.clock.now_ns())
        return replace(cooled, **more)

    world.ask(rule("a"), rule("b"))
    assert world.ends() == {an_id("b", 0): (Outcome.REJECTED, "kill_error_cooldown")}
    world.ask(rule("c", cooldown_key="other"), rule("d", dry_run=True))
    world.clock.advance(60)
    world.dispatcher.tick()
    world.ask(rule("e"))
    assert [command.command_id for command in world.commands()] == [an_id(cause, 0) for cause in "acde"]


def test_a_cooldown_is_for_whole_requests_not_for_their_later_steps(world: World) -> None:
    rule = execute("one", "kill", "halt", actor=a_rule(), cooldown_key="k", cooldown_s=60)
    world.ask(rule)
    world.clock.advance(59)
    world.node_reports(ONE)
    world.clock.advance(1)
    world.ask(execute("two", actor=a_rule(), cooldown_key="k", cooldown_s=60))
    assert [c.command_id for c in world.commands()] == [ONE, an_id("one", 1), an_id("two", 0)]


def test_what_was_rejected_begins_no_cooldown(world: World) -> None:
    rule = execute("a", actor=a_rule(), cooldown_key="k", cooldown_s=60, host="elsewhere")
    world.ask(rule, replace(execute("b"), actor=a_rule(), cooldown_key="k", cooldown_s=60))
    assert [command.command_id for command in world.commands()] == [an_id("b", 0)]


def test_what_needs_two_people_is_refused() -> None:
    state = PolicyState(approval_class="two")
    assert decide(execute(), state) == Refuse(
        "needs_two_people", "this needs two people's signatures, and this version cannot take them yet"
    )


def holding(request: ActionRequest, state: PolicyState) -> Decision:
    return Hold("budget", "the budget of this minute is spent")


def test_what_policy_holds_waits_and_expires(world: World) -> None:
    world.dispatcher = world.another_dispatcher(decide=holding)
    world.ask(execute("one", "kill", "kill"))
    assert world.stages(ONE) == ["REQUESTED", "HELD"]
    world.clock.advance(299)
    world.dispatcher.tick()
    assert world.ends() == {}
    world.clock.advance(1)
    world.dispatcher.tick()
    assert world.ends() == {
        ONE: (Outcome.EXPIRED, "kill_error_expired"),
        an_id("one", 1): (Outcome.CANCELED, "kill_error_step_not_reached"),
    }
    assert world.commands() == []


def test_what_is_held_can_be_canceled_or_denied_but_not_approved_yet(world: World) -> None:
    world.dispatcher = world.another_dispatcher(decide=holding)
    world.ask(execute("a"), execute("b"), execute("c"))
    a, b, c = (an_id(cause, 0) for cause in "abc")
    world.ask(about(Verb.CANCEL, a), about(Verb.DENY, b), about(Verb.APPROVE, c), about(Verb.CANCEL, a))
    assert world.ends() == {a: (Outcome.CANCELED, "kill_error_canceled"), b: (Outcome.REJECTED, "kill_error_denied")}
    assert [letter.reason for letter in world.dead_letters()] == ["approvals_not_built"]


def test_cancel_approve_and_deny_come_too_late_for_what_is_dispatched(world: World) -> None:
    world.ask(execute())
    world.ask(about(Verb.CANCEL, ONE), about(Verb.APPROVE, ONE), about(Verb.DENY, ONE))
    assert [letter.reason for letter in world.dead_letters()] == ["cancel_too_late", "not_held", "not_held"]
    assert world.ends() == {}


def test_a_step_that_waits_can_be_canceled_and_the_running_one_goes_on(world: World) -> None:
    world.ask(execute("one", "kill", "kill", "kill"))
    world.ask(about(Verb.CANCEL, an_id("one", 1)))
    assert set(world.ends()) == {an_id("one", 1), an_id("one", 2)}
    world.node_reports(ONE)
    assert [command.command_id for command in world.commands()] == [ONE]


def test_a_gap_is_audited_and_passed(world: World) -> None:
    partition = LogPosition(world.record(topics.REQUESTS_PEOPLE, b"").position.log_id, topics.REQUESTS_PEOPLE, 0)
    world.dispatcher.take([Gap(partition, expected=3, resumed_at=9, reason="retention")])
    (record,) = world.audit()
    assert record.kind == "gap"
    assert (record.detail["expected"], record.detail["resumed_at"]) == (3, 9)
    assert world.ledger.next_offset(partition) == 9


def test_a_bug_costs_one_record(world: World) -> None:
    def broken(request: ActionRequest, state: PolicyState) -> Decision:
        if request.reason == "boom":
            raise ZeroDivisionError
        return decide(request, state)

    world.dispatcher = world.another_dispatcher(decide=broken)
    world.ask(execute("a"), execute("b", reason="boom"), execute("c"))
    assert [command.command_id for command in world.commands()] == [an_id("a", 0), an_id("c", 0)]
    assert [letter.reason for letter in world.dead_letters()] == ["internal"]
    assert world.results(an_id("b", 0)) == []


# --- any duplication, any crash: the same commands -------------------------------------------------------------------

_REQUESTS = (
    execute("a"),
    execute("b", actor=a_rule(), cooldown_key="k", cooldown_s=60),
    execute("c", actor=a_rule(), cooldown_key="k", cooldown_s=60),
    execute("d", "kill", "halt"),
    execute("e", host="elsewhere"),
    about(Verb.CANCEL, an_id("d", 1)),
)


@settings(max_examples=60)
@given(
    plan=st.lists(
        st.tuples(st.lists(st.integers(0, len(_REQUESTS) - 1), max_size=4), st.sampled_from(["", *FAILPOINTS[:2]])),
        max_size=12,
    )
)
def test_any_duplication_and_any_crash_give_at_most_one_command_an_execution(
    plan: list[tuple[list[int], str]],
) -> None:
    world = World(clock=FakeClock())
    world.beat()
    for wanted, crash_at in plan:
        records = [world.request_record(_REQUESTS[number]) for number in wanted]
        if crash_at:
            world.failpoints.arm(crash_at)
        try:
            world.dispatcher.take(records)
        except Crash:
            world = world.restarted()
            world.dispatcher.take(records)
        world.dispatcher.take(records)
    ids = [command.command_id for command in world.commands()]
    assert len(ids) == len(set(ids))
    asked = {number for wanted, _ in plan for number in wanted}
    expected = {an_id(cause, 0) for number, cause in ((0, "a"), (3, "d")) if number in asked}
    cooled = {an_id("b", 0), an_id("c", 0)} & set(ids)
    assert set(ids) - cooled == expected
    assert len(cooled) == (1 if asked & {1, 2} else 0)
    numbers = [result.record_no for result in world.results()]
    assert numbers == list(range(len(numbers)))
    steps = [(result.execution_id, result.seq) for result in world.results()]
    assert len(steps) == len(set(steps))
    assert [record.record_no for record in world.audit()] == list(range(len(world.audit())))


def test_a_row_that_is_damaged_ends_the_dispatcher_instead_of_costing_each_request_that_needs_it(world: World) -> None:
    connection = world.ledger._database._connection
    connection.execute("DROP TRIGGER temp.douse_rows_UPDATE")
    connection.execute("UPDATE rows SET value = CAST('{' AS BLOB) WHERE kind = 'node'")
    with pytest.raises(PermanentFailure, match="the content of rows is not what was written") as caught:
        world.ask(execute())
    assert caught.value.reason == "journal_io"
    with pytest.raises(PermanentFailure):
        world.ledger.verify()

"""Only verified results and heartbeats, signed by the right key, move executions on."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from tests.fakes.clock import START_NS
from tests.fakes.signing import FakeVerifier
from tests.unit.dispatching import (
    BORN,
    COMMANDS,
    KEYSET,
    LOG,
    NODE,
    OTHER,
    PARTITION,
    REBORN,
    SECOND,
    World,
    about,
    an_id,
    execute,
    node_key,
    person,
    position,
    steps,
    target,
)
from workers.dispatcher.follow import ASK_AT_ONCE, NAMES_MOST, PROOF_MARGIN_NS
from workers.dispatcher.tails import Tail
from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.ids import ExecutionId, LogId
from workers.domain.log import topics
from workers.domain.log.record import LogPosition, OutRecord
from workers.domain.node_state import Progress
from workers.domain.outcome import Outcome, Stage, Values
from workers.domain.request import Step, Verb
from workers.domain.result import EFFECT_LOST
from workers.domain.trust.envelope import PayloadType
from workers.wire.ports import VerifiedRecord

T = TypeVar("T")

ONE, TWO, THREE = (an_id("one", number) for number in range(3))
LATE_S = 300 + PROOF_MARGIN_NS // SECOND


@pytest.fixture
def world() -> World:
    made = World()
    made.beat()
    return made


def ids(world: World) -> list[ExecutionId]:
    return [command.command_id for command in world.commands()]


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.NO_ACTION, Outcome.DRY_RUN])
def test_a_success_releases_the_next_step(world: World, outcome: Outcome) -> None:
    world.ask(execute("one", "kill", "halt"))
    assert ids(world) == [ONE]
    world.node_reports(ONE, None)
    assert ids(world) == [ONE]
    world.node_reports(ONE, outcome)
    assert ids(world) == [ONE, TWO]
    world.node_reports(TWO)
    assert world.ends() == {}


@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o.is_final and o not in (Outcome.COMPLETED, Outcome.NO_ACTION, Outcome.DRY_RUN)]
)
def test_anything_else_ends_the_steps_behind_it(world: World, outcome: Outcome) -> None:
    world.ask(execute("one", "kill", "halt", "kill"))
    world.node_reports(ONE, outcome)
    assert ids(world) == [ONE]
    assert world.ends() == {
        TWO: (Outcome.CANCELED, "halt_error_step_not_reached"),
        THREE: (Outcome.CANCELED, "kill_error_step_not_reached"),
    }


def test_a_step_may_wait_for_a_failure(world: World) -> None:
    first, second = steps("one", "kill", "halt")
    on_failure = type(second)(second.execution_id, second.action, second.target, on=("FAILED", "PARTIAL"))
    world.ask(execute(steps=(first, on_failure)))
    world.node_reports(ONE, Outcome.FAILED)
    assert ids(world) == [ONE, TWO]


def test_a_later_step_lives_from_its_release(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    world.clock.advance(250)
    world.node_reports(ONE)
    assert world.commands()[1].expires_at_ns == world.clock.now_ns() + 300 * SECOND


def test_unknown_is_waited_for(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    world.node_reports(ONE, Outcome.UNKNOWN)
    assert ids(world) == [ONE]
    world.node_reports(ONE, Outcome.COMPLETED)
    assert ids(world) == [ONE, TWO]


def test_a_result_read_twice_moves_nothing_twice(world: World) -> None:
    world.ask(execute("one", "kill", "kill", "kill"))
    record = world.result_record(ONE)
    world.dispatcher.take([record])
    world.dispatcher.take([record, world.result_record(ONE), world.result_record(ONE, Outcome.FAILED)])
    assert ids(world) == [ONE, TWO]


def test_a_nodes_first_final_outcome_stands(world: World) -> None:
    halted(world)
    world.node_reports(ONE, Outcome.FAILED)
    world.node_reports(ONE, None)
    world.ask(about(Verb.UNDO, ONE))
    assert ids(world) == [ONE, an_id("undo", ONE)]


@pytest.mark.parametrize(
    "forged",
    [
        {"signed_by": OTHER},
        {"signed_by": OTHER, "node_id": OTHER},
        {"producer": "dispatcher"},
    ],
)
def test_another_nodes_result_on_an_execution_is_ignored(world: World, forged: dict[str, Any]) -> None:
    world.beat(OTHER)
    world.ask(execute("one", "kill", "kill"))
    world.node_reports(ONE, **forged)
    assert ids(world) == [ONE]


def test_bytes_that_do_not_verify_mean_nothing_and_are_passed(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    for topic in (topics.RESULTS, topics.NODES):
        records = [world.record(topic, value) for value in (b"", b"junk", b"{}")]
        world.dispatcher.take(records)
        assert world.ledger.next_offset(records[-1].position) == records[-1].offset + 1
    assert ids(world) == [ONE]
    assert world.dead_letters() == []


def test_while_the_keyset_has_expired_nothing_is_passed_by(world: World) -> None:
    class Expired(FakeVerifier):
        def verify(self, value: bytes, kind: PayloadType, as_: type[T]) -> VerifiedRecord[T]:
            raise MalformedMessage("expired", code="keyset_expired")

    world.ask(execute("one", "kill", "kill"))
    record = world.result_record(ONE)
    with pytest.raises(TransientFailure):
        world.another_dispatcher(verifier=Expired(KEYSET)).take([record])
    assert world.ledger.next_offset(record.position) is None
    world.dispatcher.take([record])
    assert ids(world) == [ONE, TWO]


def test_its_own_results_are_recognised_without_verifying_them(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    value = b"not even an envelope"
    world.tails.send(OutRecord(topics.RESULTS, b"", value), token=1)
    world.dispatcher.take([world.record(topics.RESULTS, value)])
    assert world.telemetry.counts["dispatcher.unverified"] == 0
    world.dispatcher.take([world.record(topics.RESULTS, value + b"!")])
    assert world.telemetry.counts["dispatcher.unverified"] == 1


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_that_another_key_signed_is_not_believed() -> None:
    world = World()
    world.beat(NODE, signed_by=OTHER)
    world.beat(NODE, signed_by=OTHER, node_key="0" * 32)
    world.beat(NODE, node_key="0" * 32)
    world.beat(NODE, signed_by=OTHER, node_key=node_key(OTHER))
    world.ask(execute())
    assert world.ends() == {ONE: (Outcome.REJECTED, "kill_error_unknown_node")}


def test_a_replayed_heartbeat_changes_nothing(world: World) -> None:
    old = world.heartbeat_record(host_names=("before",))
    world.clock.advance(10)
    world.beat(host_names=("after",))
    replayed = world.record(topics.NODES, old.value)
    world.dispatcher.take([replayed])
    world.ask(execute("a", host="before"), execute("b", host="after"))
    assert ids(world) == [an_id("b", 0)]


def test_a_node_that_changed_its_name_is_found_under_the_new_one_only(world: World) -> None:
    world.beat(host_names=("New-Name",))
    world.ask(execute("a", host="host-1"), execute("b", host="new-name"))
    assert ids(world) == [an_id("b", 0)]


def tombstones(world: World, *keys: bytes) -> None:
    world.dispatcher.take([world.record(topics.NODES, None, key=key) for key in keys])


def alarms(world: World, name: str) -> list[Values]:
    return [record.detail for record in world.audit() if record.kind == name]


def test_a_tombstone_retires_nobody_and_is_an_alarm_once_a_minute(world: World) -> None:
    tombstones(world, *[NODE.encode()] * 50)
    world.ask(execute(host="host-1"))
    assert ids(world) == [ONE]
    assert [detail["node_id"] for detail in alarms(world, "unsigned_tombstone")] == [NODE]
    assert world.telemetry.counts["dispatcher.alarms"] == 50
    world.clock.advance(61)
    tombstones(world, NODE.encode())
    assert len(alarms(world, "unsigned_tombstone")) == 2


def test_tombstones_of_nodes_that_nobody_knows_raise_one_alarm(world: World) -> None:
    tombstones(world, b"", b"\xff", *(b"%032x" % number for number in range(100, 200)))
    assert len(alarms(world, "unsigned_tombstone")) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_an_earlier_incarnation_is_never_news_again(restart: bool) -> None:
    """Not after a tombstone, not after a restart, and not even if a clock that was ahead signed that heartbeat."""
    world = World()
    world.clock.advance(3600)
    ahead = world.heartbeat_record()
    world.clock.set(START_NS)
    world.beat()
    world.clock.advance(1)
    world.beat(incarnation=REBORN)
    if restart:
        world = world.restarted()
    world.ask(execute("one", host="host-1"))
    tombstones(world, NODE.encode())
    world.dispatcher.take([world.record(topics.NODES, ahead.value, key=NODE.encode())])
    world.ask(execute("two", host="host-1"))
    assert world.ends() == {}
    assert [command.incarnation for command in world.commands()] == [REBORN, REBORN]


def test_a_node_whose_clock_ran_ahead_is_believed_again_when_its_journal_is_new(world: World) -> None:
    world.beat(at_ns=world.clock.now_ns() + 86_400 * SECOND)
    world.clock.advance(60)
    world.beat(incarnation=REBORN)
    world.ask(execute())
    assert world.commands()[0].incarnation == REBORN


# --- host names -----------------------------------------------------------------------------------------------------


def test_a_host_name_stays_with_the_node_that_had_it_first(world: World) -> None:
    world.beat(OTHER, host_names=("host-2", "HOST-1"))
    world.ask(execute("a", host="host-1"), execute("b", host="host-2"), execute("c", host=OTHER))
    assert [command.node_id for command in world.commands()] == [NODE, OTHER, OTHER]
    assert alarms(world, "host_name_disputed") == [{"host_name": "HOST-1", "node_id": OTHER, "held_by": NODE}]
    again = world.restarted()
    again.beat(OTHER, host_names=("host-1",))
    again.beat(NODE)
    again.ask(execute("d", host="host-1"))
    assert again.commands()[-1].node_id == NODE


def test_a_repeated_claim_is_one_alarm_and_takes_nothing(world: World) -> None:
    for _ in range(20):
        world.beat(OTHER, host_names=("host-1",))
    assert len(alarms(world, "host_name_disputed")) == 1
    world.ask(execute("a", host="host-1"))
    assert world.commands()[0].node_id == NODE


def test_a_name_that_its_holder_gives_up_goes_to_the_next_that_claimed_it(world: World) -> None:
    world.beat(OTHER, host_names=("host-1",))
    world.beat(NODE, host_names=("renamed",))
    world.ask(execute("a", host="host-1"), execute("b", host="renamed"))
    assert [command.node_id for command in world.commands()] == [OTHER, NODE]
    world.beat(NODE, host_names=("renamed", "host-1"))
    world.ask(execute("c", host="host-1"))
    assert world.commands()[-1].node_id == OTHER


def test_a_name_from_before_claims_were_numbered_is_its_nodes_own(world: World) -> None:
    with world.ledger.begin() as tx:
        tx.put("host", f'"host-1"{NODE}', b"")
    world.beat(OTHER, host_names=("host-1",))
    world.ask(execute("a", host="host-1"))
    assert world.commands()[0].node_id == NODE


def test_a_node_has_so_many_names_and_no_more(world: World) -> None:
    world.beat(OTHER, host_names=tuple(f"squatted-{number}" for number in range(1000)))
    world.ask(execute("a", host=f"squatted-{NAMES_MOST - 1}"), execute("b", host=f"squatted-{NAMES_MOST}"))
    assert ids(world) == [an_id("a", 0)]


def test_a_node_without_its_old_journal_leaves_its_commands_unknown(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    world.clock.advance(1)
    world.beat(incarnation=REBORN)
    assert world.ends() == {
        ONE: (Outcome.UNKNOWN, "kill_error_node_state_lost"),
        TWO: (Outcome.CANCELED, "kill_error_step_not_reached"),
    }
    world.beat(incarnation=REBORN)
    assert len(world.results(ONE)) == 3
    world.ask(execute("new"))
    assert world.commands()[-1].incarnation == REBORN


def test_an_old_incarnation_replayed_loses_nothing(world: World) -> None:
    old = world.heartbeat_record(incarnation=REBORN)
    world.clock.advance(1)
    world.beat()
    world.ask(execute())
    world.dispatcher.take([world.record(topics.NODES, old.value)])
    assert world.ends() == {}
    assert world.commands()[0].incarnation == BORN


# --- proof of non-delivery -------------------------------------------------------------------------------------------


def test_a_command_that_its_node_never_took_in_expires_undelivered(world: World) -> None:
    world.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 10)
    world.ask(execute("one", "kill", "kill"))
    world.clock.advance(LATE_S)
    world.beat(positions=(position(10),))
    assert world.ends() == {
        ONE: (Outcome.EXPIRED, "kill_error_undelivered"),
        TWO: (Outcome.CANCELED, "kill_error_step_not_reached"),
    }


@pytest.mark.parametrize(
    ("after_s", "positions"),
    [
        (LATE_S - 1, (position(10),)),
        (LATE_S, ()),
        (LATE_S, (position(11),)),
        (LATE_S, (position(10, log_id=LogId("another")), position(10, log_id=LogId("")))),
    ],
)
def test_without_proof_a_dispatched_command_is_not_ended(
    world: World, after_s: int, positions: tuple[Any, ...]
) -> None:
    world.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 10)
    world.ask(execute())
    world.clock.advance(after_s)
    world.beat(positions=positions)
    assert world.ends() == {}


def test_what_its_node_has_claimed_is_never_undelivered(world: World) -> None:
    world.ask(execute())
    world.node_reports(ONE, None)
    world.clock.advance(LATE_S)
    world.beat(positions=(position(0),))
    assert world.ends() == {}


def test_a_bound_never_shrinks(world: World) -> None:
    partition = LogPosition(LOG, COMMANDS, PARTITION)
    world.tails.note(partition, 10)
    world.tails.note(partition, 0)
    assert world.tails.of(COMMANDS, PARTITION) == Tail(partition, 10)


def sent(world: World, count: int = 1) -> None:
    for token in range(count):
        world.tails.send(OutRecord(COMMANDS, b"", b"", (), PARTITION), token=token)
    world.tails.acks()


def test_a_log_that_was_made_anew_proves_nothing(world: World) -> None:
    world.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 10)
    world.ask(execute())
    sent(world)  # acknowledged at offset 0, where ten records should be
    assert world.tails.of(COMMANDS, PARTITION) is None
    world.clock.advance(LATE_S)
    world.beat(positions=(position(10),))
    assert world.ends() == {}


def test_a_log_of_another_name_proves_nothing(world: World) -> None:
    world.ask(execute())
    world.writer.log_id = LogId("another")
    sent(world)
    world.clock.advance(LATE_S)
    world.beat(positions=(position(0),))
    assert world.ends() == {}


@pytest.mark.parametrize("log_id", [LOG, LogId("")])
def test_the_bound_grows_with_what_the_log_acknowledged_and_survives_a_restart(world: World, log_id: LogId) -> None:
    world.writer.log_id = log_id
    sent(world, 3)
    world.ask(execute())
    again = world.restarted()
    again.clock.advance(LATE_S)
    again.beat(positions=(position(3),))
    assert again.ends() == {ONE: (Outcome.EXPIRED, "kill_error_undelivered")}


# --- no proof, so its node is asked again ----------------------------------------------------------------------------


def copies(world: World) -> int:
    return len(world.out(COMMANDS))


def test_an_expired_command_behind_which_its_node_has_read_is_sent_once_more_byte_for_byte(world: World) -> None:
    world.ask(execute())
    world.clock.advance(LATE_S)
    world.beat(positions=(position(50),))
    first, again = world.out(COMMANDS)
    assert again == first
    assert world.ends() == {}
    assert [record.kind for record in world.audit()].count("asked_again") == 1
    world.node_reports(ONE, Outcome.EXPIRED)
    world.clock.advance(3600)
    world.beat(positions=(position(51),))
    assert copies(world) == 2


def test_it_is_asked_three_times_a_minute_apart_and_then_the_alarm_stands(world: World) -> None:
    world.ask(execute())
    world.clock.advance(LATE_S)
    asked_at = []
    for second in range(300):
        before = copies(world)
        world.beat(positions=(position(50),))
        world.dispatcher.tick()
        asked_at += [second] * (copies(world) - before)
        world.clock.advance(1)
    assert asked_at == [0, 60, 120]
    assert [result.alarm for result in world.results(ONE) if result.alarm] == ["node_silent"]
    assert world.ends() == {}


def test_before_its_expiry_by_its_nodes_own_time_nothing_is_asked(world: World) -> None:
    world.ask(execute())
    world.clock.advance(LATE_S + 10)
    world.beat(positions=(position(50),), at_ns=world.clock.now_ns() - 11 * SECOND)
    assert copies(world) == 1


def test_an_old_heartbeat_sends_no_command_again(world: World) -> None:
    """A dispatcher that was down reads them before the results of the same time."""
    world.ask(execute())
    world.clock.advance(LATE_S)
    old = world.heartbeat_record(positions=(position(50),))
    world.clock.advance(600)
    world.dispatcher.take([old])
    assert copies(world) == 1


def test_a_heartbeat_makes_it_ask_about_so_many_and_the_next_about_the_others(world: World) -> None:
    for number in range(ASK_AT_ONCE + 4):
        world.ask(execute(number))
    world.clock.advance(LATE_S)
    for more in (ASK_AT_ONCE, 4, 0):
        before = copies(world)
        world.beat(positions=(position(50),))
        assert copies(world) - before == more


@pytest.mark.parametrize(("outcome", "times"), [(None, 1), (Outcome.UNKNOWN, 0), (Outcome.FAILED, 0)])
def test_what_was_claimed_is_asked_for_and_what_is_looked_into_is_not(
    world: World, outcome: Outcome | None, times: int
) -> None:
    """A claim without an end: the answer may have been lost. UNKNOWN: the node looks by itself."""
    world.ask(execute())
    world.node_reports(ONE, None)
    if outcome is not None:
        world.node_reports(ONE, outcome)
    world.clock.advance(LATE_S)
    world.beat(positions=(position(50),))
    assert copies(world) == 1 + times


def test_a_copy_in_another_log_ends_what_offsets_could_prove(world: World) -> None:
    world.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 10)
    world.ask(execute())
    world.tails.note(LogPosition(LogId("another"), COMMANDS, PARTITION), 0)
    world.clock.advance(LATE_S)
    world.beat(positions=(position(50),))
    world.tails.note(LogPosition(LOG, COMMANDS, PARTITION), 10)
    world.beat(positions=(position(10),))
    assert copies(world) == 2
    assert world.ends() == {}


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_silent_node_raises_one_alarm_and_no_end(world: World) -> None:
    world.ask(execute())
    world.clock.advance(300 + 60 + 59)
    world.dispatcher.tick()
    assert world.stages(ONE) == ["REQUESTED", "DISPATCHED"]
    world.clock.advance(1)
    for _ in range(3):
        world.dispatcher.tick()
    alarm = world.results(ONE)[-1]
    assert (alarm.alarm, alarm.stage, alarm.seq, alarm.outcome) == ("node_silent", Stage.DISPATCHED, 3, None)
    assert len(world.results(ONE)) == 3
    world.clock.advance(3600)
    world.dispatcher.tick()
    assert world.ends() == {}
    world.node_reports(ONE)
    world.dispatcher.tick()
    assert len(world.results(ONE)) == 3


@pytest.mark.parametrize("outcome", [None, Outcome.UNKNOWN])
def test_a_node_that_claimed_and_fell_silent_raises_the_alarm_too(world: World, outcome: Outcome | None) -> None:
    world.ask(execute())
    world.node_reports(ONE, outcome)
    world.clock.advance(300 + 60 + 60)
    world.dispatcher.tick()
    world.dispatcher.tick()
    assert [result.alarm for result in world.results(ONE)] == ["", "", "node_silent"]


def test_a_node_that_reports_how_far_it_is_is_not_silent_however_long_it_takes(world: World) -> None:
    world.ask(execute())
    world.node_reports(ONE, None)
    for done in range(40):
        world.clock.advance(60)
        world.beat(gathering=(Progress(ONE, done, 100),))
        world.dispatcher.tick()
    assert not [result for result in world.results(ONE) if result.alarm]
    assert len(world.commands()) == 1, "it was asked again"
    world.clock.advance(60 + 60)
    world.dispatcher.tick()
    assert [result.alarm for result in world.results(ONE) if result.alarm] == ["node_silent"]


def test_a_node_whose_settings_allow_more_time_is_given_it(world: World) -> None:
    world.ask(execute())
    world.node_reports(ONE, None, configuration={"timeout": 600})
    world.clock.advance(300 + 600 + 59)
    world.dispatcher.tick()
    assert not [result for result in world.results(ONE) if result.alarm]
    world.clock.advance(1)
    world.dispatcher.tick()
    assert [result.alarm for result in world.results(ONE) if result.alarm] == ["node_silent"]


def test_a_claim_after_the_alarm_raises_no_second_one(world: World) -> None:
    world.ask(execute())
    world.clock.advance(300 + 60 + 60)
    world.dispatcher.tick()
    world.node_reports(ONE, None)
    world.clock.advance(3600)
    world.dispatcher.tick()
    assert [result.alarm for result in world.results(ONE)] == ["", "", "node_silent"]


def test_an_end_after_an_alarm_is_another_step(world: World) -> None:
    world.ask(execute())
    world.clock.advance(300 + 60 + 60)
    world.dispatcher.tick()
    world.beat(incarnation=REBORN)
    assert [result.seq for result in world.results(ONE)] == [0, 2, 3, 4]


def test_an_ended_execution_is_forgotten_in_time_and_nothing_is_left_of_it(world: World) -> None:
    world.ask(execute("one", "kill", "kill"))
    world.node_reports(ONE)
    world.node_reports(TWO, Outcome.FAILED)
    world.clock.advance(8 * 86_400 + 1)
    world.dispatcher.tick()
    with world.ledger.begin() as tx:
        assert [tx.scan(kind) for kind in ("execution", "request", "open", "sent")] == [[], [], [], []]


# --- undo ------------------------------------------------------------------------------------------------------------


def halted(world: World, **more: Any) -> ExecutionId:
    world.ask(execute("one", "halt", **more))
    world.node_reports(ONE, effect_holds=True)
    return ONE


def test_an_undo_carries_only_the_id_of_what_it_undoes(world: World) -> None:
    halted(world)
    asked = Step(an_id("undo", ONE), "kill", target())
    world.ask(about(Verb.UNDO, ONE, steps=(asked,)))
    command = world.commands()[-1]
    assert command.command_id == an_id("undo", ONE)
    assert (command.action, command.undo_of, command.target, dict(command.parameters)) == ("go_on", ONE, None, {})
    assert {result.undo_of for result in world.results(an_id("undo", ONE))} == {ONE}


@pytest.mark.parametrize(
    ("action", "outcome", "reason"),
    [
        ("kill", Outcome.COMPLETED, "kill_error_not_reversible"),
        ("halt", Outcome.NO_ACTION, "go_on_error_nothing_to_undo"),
        ("halt", Outcome.FAILED, "go_on_error_nothing_to_undo"),
        ("halt", None, "go_on_error_not_ended"),
    ],
)
def test_what_cannot_be_undone_is_rejected(world: World, action: str, outcome: Outcome | None, reason: str) -> None:
    world.ask(execute("one", action))
    world.node_reports(ONE, outcome)
    world.ask(about(Verb.UNDO, ONE))
    assert world.ends() == {an_id("undo", ONE): (Outcome.REJECTED, reason)}
    assert ids(world) == [ONE]


def test_what_its_node_found_lost_cannot_be_undone(world: World) -> None:
    halted(world)
    world.node_reports(ONE, None, alarm=EFFECT_LOST, seq=3)
    world.ask(about(Verb.UNDO, ONE))
    assert world.ends() == {an_id("undo", ONE): (Outcome.REJECTED, "go_on_error_nothing_to_undo")}


def test_an_undo_of_nothing_known_is_rejected(world: World) -> None:
    world.ask(about(Verb.UNDO, ONE))
    assert world.ends() == {an_id("undo", ONE): (Outcome.REJECTED, "go_on_error_unknown_execution")}


def test_it_is_undone_once(world: World) -> None:
    halted(world)
    undos = [about(Verb.UNDO, ONE, steps=steps(cause, "go_on")) for cause in "abc"]
    world.ask(undos[0], undos[1])
    assert world.ends() == {an_id("b", 0): (Outcome.REJECTED, "go_on_error_undo_in_progress")}
    world.node_reports(an_id("a", 0))
    world.ask(undos[2])
    assert world.ends()[an_id("c", 0)] == (Outcome.REJECTED, "go_on_error_already_undone")
    assert ids(world) == [ONE, an_id("a", 0)]


def test_an_undo_is_not_undone(world: World) -> None:
    halted(world)
    world.ask(about(Verb.UNDO, ONE))
    world.node_reports(an_id("undo", ONE), effect_holds=True)
    world.ask(about(Verb.UNDO, an_id("undo", ONE)))
    last = an_id("undo", an_id("undo", ONE))
    assert world.ends() == {last: (Outcome.REJECTED, "halt_error_not_reversible")}


def test_a_failed_undo_may_be_tried_again(world: World) -> None:
    halted(world)
    world.ask(about(Verb.UNDO, ONE, steps=steps("a", "go_on")))
    world.node_reports(an_id("a", 0), Outcome.FAILED)
    world.ask(about(Verb.UNDO, ONE, steps=steps("b", "go_on")))
    assert ids(world) == [ONE, an_id("a", 0), an_id("b", 0)]


def test_an_undo_of_what_a_lost_journal_did_is_rejected(world: World) -> None:
    halted(world)
    world.clock.advance(1)
    world.beat(incarnation=REBORN)
    world.ask(about(Verb.UNDO, ONE))
    assert world.ends() == {an_id("undo", ONE): (Outcome.REJECTED, "go_on_error_node_state_lost")}


def test_a_time_boxed_action_is_undone_by_itself_once(world: World) -> None:
    halted(world, undo_after_s=600)
    world.clock.advance(599)
    world.dispatcher.tick()
    assert ids(world) == [ONE]
    world.clock.advance(1)
    world.dispatcher.tick()
    world.dispatcher.tick()
    first, undo = world.commands()
    assert (undo.action, undo.undo_of, undo.actor) == ("go_on", ONE, person())
    assert undo.command_id != first.command_id
    assert world.stages(undo.command_id) == ["REQUESTED", "DISPATCHED"]


def test_what_a_person_has_undone_is_not_undone_by_the_timer(world: World) -> None:
    halted(world, undo_after_s=600)
    world.ask(about(Verb.UNDO, ONE))
    world.clock.advance(600)
    world.dispatcher.tick()
    assert ids(world) == [ONE, an_id("undo", ONE)]
    assert {result.execution_id for result in world.results()} == {ONE, an_id("undo", ONE)}


def test_what_left_no_effect_is_not_undone_by_the_clock(world: World) -> None:
    world.ask(execute("one", "halt", undo_after_s=600))
    world.node_reports(ONE, effect_holds=False)
    world.clock.advance(600)
    world.dispatcher.tick()
    assert {result.execution_id for result in world.results()} == {ONE}


def test_what_still_holds_stays_undoable_for_as_long_as_it_holds(world: World) -> None:
    halted(world)
    world.clock.advance(100 * 86_400)
    world.dispatcher.tick()
    world.ask(about(Verb.UNDO, ONE, requested_at_ns=world.clock.now_ns()))
    assert ids(world) == [ONE, an_id("undo", ONE)]


# --- a lost log ------------------------------------------------------------------------------------------------------


def test_open_commands_of_a_lost_log_are_sent_again_byte_for_byte_once(world: World) -> None:
    world.ask(execute("a"), execute("b"))
    world.node_reports(an_id("a", 0))
    again = world.restarted()
    assert again.dispatcher.send_again() == 0
    again.tails.note(LogPosition(LogId("log-2"), COMMANDS, PARTITION), 0)
    assert [again.dispatcher.send_again() for _ in range(2)] == [1, 0]
    first, second, sent_again = again.out(COMMANDS)
    assert sent_again == second
    assert sent_again != first
    again.clock.advance(LATE_S)
    again.beat(positions=(position(0),))
    assert again.ends() == {}


def test_what_has_expired_is_not_sent_again(world: World) -> None:
    world.ask(execute())
    world.clock.advance(300)
    world.tails.note(LogPosition(LogId("log-2"), COMMANDS, PARTITION), 0)
    assert world.dispatcher.send_again() == 0


def test_a_command_sent_again_after_its_alarm_raises_no_second_one(world: World) -> None:
    """A clock that was turned back makes an execution open again whose alarm was raised already."""
    asked_ns = world.clock.now_ns()
    world.ask(execute())
    world.clock.advance(300 + 60 + 60)
    world.dispatcher.tick()
    world.clock.set(asked_ns)
    world.tails.note(LogPosition(LogId("log-2"), COMMANDS, PARTITION), 0)
    assert world.dispatcher.send_again() == 1
    world.clock.advance(3600)
    world.dispatcher.tick()
    assert [result.alarm for result in world.results(ONE) if result.alarm] == ["node_silent"]

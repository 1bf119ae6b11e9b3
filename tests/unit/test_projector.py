"""The projector among fakes: what it believes, keeps apart and says, and that nothing is lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.failpoints import Crash
from tests.fakes.signing import FakeSigner
from tests.guarantees.history import ReplayChangesNothing
from tests.projecting import CODEC, DISPATCHER, GATEWAY, NODE_SIGNER, OTHER, REVOKED, STRANGER, VERIFIER, World
from tests.stories import BORN, NODE, OTHER_NODE, Story, event, heartbeat, step_of
from workers.domain.errors import MalformedMessage, PermanentFailure, TransientFailure
from workers.domain.history.execution import fold
from workers.domain.history.queries import EventQuery
from workers.domain.ids import NO_EXECUTION, EventId, NodeId
from workers.domain.log import topics
from workers.domain.node_state import DeadLetter
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import EFFECT_LOST, ActionResult
from workers.domain.trust.envelope import PayloadType
from workers.projector.projector import AFTER_COMMIT, BEFORE_COMMIT, FAILPOINTS
from workers.projector.record_reader import TOPICS
from workers.wire.event_reader import DetectorEvents
from workers.wire.ports import VerifiedRecord

T = TypeVar("T")

WHOLE = Story(1).whole()


def check(world: World) -> None:
    """History is what the log amounts to."""
    log = [record for topic in TOPICS for record in world.log.records(topic)]
    ReplayChangesNothing(VERIFIER, CODEC, DetectorEvents(CODEC, VERIFIER)).check(world.store, log)


def test_the_steps_of_an_execution_are_folded_with_the_bytes_that_prove_them() -> None:
    world = World()
    written = world.tell(*WHOLE)
    world.run()

    execution = world.store.execution(Story(1).id)

    assert execution is not None
    assert (execution.stage, execution.outcome) == (Stage.ENDED, Outcome.COMPLETED)
    assert {step.signed for step in execution.steps} == {record.value for record in written}
    assert world.kinds() == []


def test_the_order_of_arrival_does_not_matter() -> None:
    there, back = World(), World()
    there.tell(*WHOLE)
    back.tell(*reversed(WHOLE))
    there.run()
    back.run()
    assert there.store.digest() == back.store.digest()


def test_audit_heartbeats_and_events_are_stored() -> None:
    world = World()
    world.audit(f"node/{NODE}/{BORN}", 3)
    world.audit("gateway/1", signer=GATEWAY)
    world.beat(heartbeat(1), heartbeat(2))
    world.detect(event(1))
    world.run()

    assert [stored.verified for stored in world.store.audit()] == [True] * 4
    assert [stored.state.record_no for stored in world.store.nodes()] == [2]
    assert world.store.nodes()[0].folded_at_ns == world.clock.now_ns()
    stored_event = world.store.event(EventId("event-1"))
    assert stored_event is not None
    assert stored_event.event == event(1)


def test_falcos_own_json_becomes_an_event() -> None:
    world = World()
    alert = {
        "uuid": "6f3c",
        "rule": "Terminal shell in container",
        "priority": "Notice",
        "time": "2026-10-01T10:00:00.000000000Z",
        "output": "a shell",
        "output_fields": {"proc.pid": 4711},
        "source": "syscall",
        "hostname": "web-1",
    }
    world.write(topics.FALCO_EVENTS, json.dumps(alert).encode())
    world.run()
    stored = world.store.event(EventId("6f3c"))
    assert stored is not None
    assert stored.event.rule == "Terminal shell in container"


@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        (STRANGER, "unknown_key"),
        (REVOKED, "revoked_key"),
        (OTHER, "not_its_node"),
        (GATEWAY, "not_its_node"),
    ],
)
def test_a_result_signed_by_another_key_is_kept_apart_and_reported(signer: FakeSigner, reason: str) -> None:
    world = World()
    world.tell(Story(1).requested(), Story(1).dispatched())
    forged = world.tell(Story(1).ended(Outcome.FAILED), signer=signer)[0]
    world.run()

    execution = world.store.execution(Story(1).id)

    assert execution is not None
    assert execution.stage is Stage.DISPATCHED
    assert world.store.health().unverified == 1
    assert world.kinds() == ["unverified"]
    detail = world.output()[-1].detail
    assert (detail["reason"], detail["count"]) == (reason, 1)
    assert detail["first"] == f"{topics.RESULTS}/{forged.position.partition}@{forged.offset}"
    assert world.telemetry.counts["history.unverified"] == 1
    assert world.outbox.on(topics.DEAD_LETTERS) == []


def test_a_flipped_byte_is_never_folded() -> None:
    value = NODE_SIGNER.sign(PayloadType.RESULT, Story(1).ended()).value
    world = World()
    for place in range(0, len(value), 7):
        world.write(topics.RESULTS, value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :])
    count = len(world.log.records(topics.RESULTS))
    world.run()
    assert world.store.execution(Story(1).id) is None
    assert world.store.health().unverified == count


def test_a_flood_of_forgeries_is_one_alarm_a_batch() -> None:
    world = World()
    for number in range(50):
        world.tell(Story(number).ended(), signer=STRANGER)
    world.run()
    assert world.kinds() == ["unverified"]
    assert world.output()[-1].detail["count"] == 50
    assert world.store.health().unverified == 50


@pytest.mark.parametrize("topic", [topics.RESULTS, topics.AUDIT, topics.NODES])
@pytest.mark.parametrize("value", [b"", b"garbage", b"\xc3\x01" + bytes(30), b"x" * 1_000_001])
def test_bytes_that_are_no_message_become_a_dead_letter_and_stop_nothing(topic: str, value: bytes) -> None:
    world = World()
    record = world.write(topic, value, key=b"k")
    world.tell(*WHOLE)
    world.run()

    letters = [CODEC.decode(out.value or b"", DeadLetter) for out in world.outbox.on(topics.DEAD_LETTERS)]
    assert [(letter.topic, letter.offset, letter.size, letter.key) for letter in letters] == [
        (topic, record.offset, len(value), b"k")
    ]
    assert letters[0].reason
    assert world.kinds() == ["dead_letter"]
    assert world.store.health().unverified == 1
    assert world.store.execution(Story(1).id) is not None


def stored_events(world: World) -> set[str]:
    return {stored.event.event_id for stored in world.store.events(EventQuery()).rows}


@pytest.mark.parametrize(("topic", "kept"), [(topics.RUNTIME_EVENTS, 1), (topics.FALCO_EVENTS, 0)])
@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b"{}", b"\xff" * 100, b'{"rule": 1e999}'])
def test_nonsense_instead_of_an_event_becomes_a_dead_letter_and_no_event(
    topic: str, kept: int, value: bytes | None
) -> None:
    world = World()
    world.write(topic, value)
    world.run()
    assert len(world.outbox.on(topics.DEAD_LETTERS)) == 1
    assert world.store.health().unverified == kept
    assert stored_events(world) == set()


@pytest.mark.parametrize(
    ("value", "letters"),
    [
        (CODEC.encode(event(1)), ["unsigned"]),
        (STRANGER.sign(PayloadType.EVENT, event(1)).value, []),
        (REVOKED.sign(PayloadType.EVENT, event(1)).value, []),
        (DISPATCHER.sign(PayloadType.EVENT, event(1)).value, []),
        (NODE_SIGNER.sign(PayloadType.EVENT, event(1)).value, []),
        (OTHER.sign(PayloadType.EVENT, replace(event(1), host=NODE)).value, []),
    ],
    ids=["unsigned", "unknown key", "revoked key", "another role", "of another host", "of another node"],
)
def test_an_event_that_no_gateway_and_not_its_own_node_signed_is_kept_apart(value: bytes, letters: list[str]) -> None:
    world = World()
    world.write(topics.RUNTIME_EVENTS, value)
    world.detect(event(2))
    world.write(topics.RUNTIME_EVENTS, NODE_SIGNER.sign(PayloadType.EVENT, replace(event(3), host=NODE)).value)
    world.run()
    assert stored_events(world) == {"event-2", "event-3"}
    assert world.store.health().unverified == 1
    found = [CODEC.decode(record.value or b"", DeadLetter) for record in world.outbox.on(topics.DEAD_LETTERS)]
    assert [letter.reason for letter in found] == letters
    assert world.kinds() == (["dead_letter"] if letters else ["unverified"])


def test_an_unsigned_topic_is_read_only_where_the_settings_name_it() -> None:
    world = World()
    world.unsigned_topics = ()
    world.write(topics.FALCO_EVENTS, b'{"rule": "R", "time": "2026-07-04T20:46:44Z", "hostname": "h"}')
    world.run()
    assert stored_events(world) == set()
    world.unsigned_topics = (topics.FALCO_EVENTS,)
    world.run()
    assert len(stored_events(world)) == 1


def test_the_tombstone_of_a_node_takes_nothing_away_and_is_an_alarm() -> None:
    world = World()
    world.write(topics.NODES, None, key=NODE.encode())
    world.run()
    assert (world.kinds(), world.store.health().unverified) == (["unverified"], 1)
    assert world.telemetry.counts["history.unverified"] == 1


def test_what_is_wrong_with_the_audit_topic_is_never_answered_on_it() -> None:
    world = World()
    world.audit(f"node/{NODE}/{BORN}", signer=OTHER)
    world.audit("gateway/1", signer=STRANGER)
    world.run()
    assert world.kinds() == []
    assert world.telemetry.counts["history.unverified"] == 2
    assert world.store.health().unverified == 2
    assert world.store.audit() == []


def test_a_heartbeat_for_another_node_is_not_believed() -> None:
    world = World()
    world.beat(heartbeat(1), signer=OTHER)
    world.run()
    assert (world.store.nodes(), world.store.health().unverified) == ([], 1)


def test_a_node_that_ends_anothers_execution_is_shown_as_a_conflict() -> None:
    world = World()
    world.tell(Story(1).dispatched(), replace(Story(1).ended(), node_id=OTHER_NODE))
    world.run()
    execution = world.store.execution(Story(1).id)
    assert execution is not None
    assert (execution.outcome, execution.conflict, execution.alarms) == (None, True, ("foreign_node",))


def disputes(world: World) -> list[Mapping[str, object]]:
    return [record.detail for record in world.output() if record.kind == "foreign_node"]


def test_a_node_that_speaks_for_an_execution_of_another_is_an_alarm_once() -> None:
    world = World()
    forged = replace(Story(1).ended(), node_id=OTHER_NODE)
    world.tell(*WHOLE)
    world.tell(forged, signer=OTHER)
    world.tell(forged, signer=OTHER)
    world.run()
    (detail,) = disputes(world)
    assert (detail["node_id"], detail["given_to"], detail["first"]) == (OTHER_NODE, NODE, Story(1).id)


def test_a_result_before_the_dispatchers_record_is_no_alarm_and_one_without_it_is() -> None:
    world = World()
    world.tell(Story(1).ended())
    projector = world.run()
    world.tell(Story(1).dispatched())
    world.tell(Story(2).ended(), signer=NODE_SIGNER)
    while projector.step(0.0):
        pass
    world.clock.advance(61)
    world.beat(heartbeat(100))
    while projector.step(0.0):
        pass
    assert [(detail["node_id"], detail["first"], detail["given_to"]) for detail in disputes(world)] == [
        (NODE, Story(2).id, "")
    ]


QUARANTINE = Story(1, action="file_quarantine")
REFUSED = Story(2)
NODE_B_SAYS = st.builds(
    lambda story, result, undo_of, alarm: replace(
        result,
        execution_id=story.id,
        node_id=OTHER_NODE,
        undo_of=undo_of,
        alarm=EFFECT_LOST if alarm and result.stage is Stage.CLAIMED else "",
    ),
    st.sampled_from([QUARANTINE, REFUSED, Story(3), Story(4), Story(5, node_id=OTHER_NODE)]),
    st.sampled_from(
        [
            Story(3).claimed(),
            Story(3).claimed(seq=9),
            *(Story(3).ended(outcome, attempt=2, seq=7, effect_holds=True) for outcome in Outcome),
        ]
    ),
    st.sampled_from([NO_EXECUTION, QUARANTINE.id, REFUSED.id]),
    st.booleans(),
)


@given(st.lists(NODE_B_SAYS, max_size=12), st.randoms())
@settings(max_examples=25, deadline=None)
def test_nothing_that_another_node_signs_changes_what_the_store_says_of_a_node(
    forged: list[ActionResult], random: Random
) -> None:
    """Its outcomes, what it contains, what was undone: with an execution that the dispatcher did give to the other."""
    true = [*QUARANTINE.whole(effect_holds=True), REFUSED.requested(), replace(REFUSED.refused(), node_id=NodeId(""))]
    others = [Story(5, node_id=OTHER_NODE).requested(), Story(5, node_id=OTHER_NODE).dispatched()]
    alone, attacked = World(), World()
    alone.tell(*true)
    alone.run()
    records = [*true, *others, *forged]
    random.shuffle(records)
    for record in records:
        attacked.tell(record, signer=OTHER if record in forged else None)
    attacked.run()
    for world in (alone, attacked):
        assert [each.execution_id for each in world.store.contained() if each.node_id == NODE] == [QUARANTINE.id]
        known = world.store.execution(QUARANTINE.id)
        assert known is not None
        assert known.undone_by is None
    for story in (QUARANTINE, REFUSED):
        before, after = alone.store.execution(story.id), attacked.store.execution(story.id)
        assert before is not None
        assert after is not None
        assert replace(after, steps=(), alarms=(), conflict=False) == replace(before, steps=())
        spoken = any(record.execution_id == story.id for record in forged)
        assert (after.conflict, after.alarms) == ((True, ("foreign_node",)) if spoken else (False, ()))
    check(attacked)


def test_a_gap_is_kept_and_reported() -> None:
    world = World()
    for number in range(8):
        world.tell(Story(number).requested())
    projector = world.run()
    for number in range(8, 20):
        world.tell(Story(number).requested())
    for partition in (0, 1):
        high = max(r.offset for r in world.log.records(topics.RESULTS) if r.position.partition == partition)
        world.log.truncate(topics.RESULTS, partition=partition, below=high)
    world.run(projector)

    assert world.store.health().gaps == 2
    assert world.kinds() == ["gap", "gap"]
    assert {record.detail["reason"] for record in world.output()[1:]} == {"log_expired"}
    assert world.telemetry.events("error").count("history_gap") == 2


def test_a_recreated_topic_is_read_from_its_beginning_and_reported() -> None:
    world = World()
    world.tell(*WHOLE)
    world.run()
    world.log.create_topic(topics.RESULTS, 2)
    world.tell(*Story(2).whole())
    world.run()
    assert world.store.execution(Story(1).id) is not None
    assert world.store.execution(Story(2).id) is not None
    assert set(world.kinds()) == {"new_log"}


def test_a_topic_replaced_under_a_running_projector_is_a_gap_and_read_on() -> None:
    world = World()
    world.tell(*WHOLE)
    projector = world.run()
    world.log.create_topic(topics.RESULTS, 2)
    world.tell(*Story(2).whole())
    world.run(projector)
    assert world.store.execution(Story(2).id) is not None
    assert "gap" in world.kinds()
    world.tell(*Story(3).whole())
    world.run()
    assert world.store.execution(Story(3).id) is not None


@pytest.mark.parametrize("place", FAILPOINTS)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_crash_at_any_failpoint_loses_nothing_and_doubles_nothing(place: str, nth: int) -> None:
    undisturbed = World(limit=5)
    world = World(limit=5)
    for each in (undisturbed, world):
        for number in range(6):
            each.tell(*Story(number).whole())
        each.detect(event(1))
        each.audit(f"node/{NODE}/{BORN}", 3)
    undisturbed.run()

    world.failpoints.arm(place, nth=nth)
    with pytest.raises(Crash):
        world.run()
    world.run()

    check(world)
    assert world.store.digest() == undisturbed.store.digest()
    assert world.store.health() == undisturbed.store.health()


def test_offsets_move_with_the_rows_or_not_at_all() -> None:
    for place, folded in ((BEFORE_COMMIT, False), (AFTER_COMMIT, True)):
        world = World()
        record = world.tell(Story(1).requested())[0]
        world.failpoints.arm(place)
        with pytest.raises(Crash):
            world.run()
        assert (world.store.execution(Story(1).id) is not None) is folded
        assert (world.store.next_offset(record.position) is not None) is folded


def test_ten_replays_of_the_whole_log_change_nothing() -> None:
    world = World()
    for number in range(5):
        world.tell(*Story(number).whole())
    world.audit(f"node/{NODE}/{BORN}", 3)
    world.beat(heartbeat(100), heartbeat(101))
    world.detect(event(1), event(2))
    projector = world.run()
    before = world.store.digest()
    parts = {topic: world.log.records(topic) for topic in (topics.RESULTS, topics.AUDIT, topics.NODES)}
    for _ in range(10):
        for records in parts.values():
            for record in records:
                world.log.duplicate(record)
        world.run(projector)
    check(world)
    assert world.store.digest() == before
    assert world.kinds() == []


def test_a_second_projector_on_one_store_is_fenced_off() -> None:
    world = World()
    first, second = world.projector(), world.projector()
    first.start()
    second.start()
    world.tell(*WHOLE)
    world.run(first)
    with pytest.raises(PermanentFailure) as fenced:
        second.step(0)
    assert fenced.value.reason == "second_owner"


def test_an_unavailable_log_is_reported_and_read_on_when_it_is_back() -> None:
    world = World()
    projector = world.run()
    world.tell(*WHOLE)
    world.log.down()
    with pytest.raises(TransientFailure):
        projector.step(0)
    world.log.up()
    world.run(projector)
    assert world.store.execution(Story(1).id) is not None


def test_an_unavailable_store_keeps_what_was_read_for_the_next_step_and_alarms_once() -> None:
    world = World()
    world.tell(*WHOLE)
    world.tell(Story(2).ended(), signer=STRANGER)
    projector = world.projector()
    projector.start()
    world.failpoints.arm(BEFORE_COMMIT, error=TransientFailure("busy"))
    with pytest.raises(TransientFailure):
        projector.step(0)
    assert world.store.execution(Story(1).id) is None
    world.run(projector)
    assert world.store.execution(Story(1).id) is not None
    assert world.kinds() == ["unverified"]


def test_an_expired_keyset_makes_history_wait_instead_of_calling_everything_forged() -> None:
    world = World()
    world.tell(*WHOLE)
    projector = world.projector(verifier=ExpiredVerifier())
    projector.start()
    for _ in range(2):
        with pytest.raises(TransientFailure) as waits:
            projector.step(0)
        assert waits.value.reason == "keyset_expired"
    assert (world.store.health().unverified, world.kinds()) == (0, [])
    world.run()
    assert world.store.execution(Story(1).id) is not None


class ExpiredVerifier:
    """What the real one does when nobody renewed the keyset."""

    def verify(self, value: bytes, kind: PayloadType, as_: type[T]) -> VerifiedRecord[T]:
        raise MalformedMessage("keyset version 1 has expired: renew it", code="keyset_expired")


def test_partitions_that_an_operator_adds_are_read_within_a_minute() -> None:
    world = World()
    world.tell(*WHOLE)
    projector = world.run()
    world.log.add_partitions(topics.RESULTS, 5)
    later = [Story(number) for number in range(2, 12)]
    for story in later:
        world.tell(*story.whole())
    world.run(projector)
    world.clock.advance(61)
    world.run(projector)
    assert all(world.store.execution(story.id) is not None for story in later)
    assert len(world.log.records(topics.RESULTS)) == sum(
        offset for place, offset in world.store.health().next_offsets.items() if place.startswith(topics.RESULTS)
    )


def test_one_number_on_two_records_is_a_cloned_node() -> None:
    world = World()
    world.tell(Story(1).claimed())
    projector = world.run()
    world.tell(replace(Story(2).claimed(), record_no=Story(1).claimed().record_no))
    world.run(projector)
    assert world.kinds() == ["cloned_sender"]
    assert world.output()[-1].detail["sender"] == f"node/{NODE}/{BORN}"
    assert world.telemetry.counts["history.clones"] == 1


def test_a_clone_inside_one_batch_is_found_too() -> None:
    world = World()
    world.tell(Story(1).claimed(), replace(Story(2).claimed(), record_no=Story(1).claimed().record_no))
    world.run()
    assert world.kinds() == ["cloned_sender"]


def test_a_record_that_never_came_is_reported_once_after_a_minute() -> None:
    world = World()
    numbered = [replace(Story(number).claimed(), record_no=number) for number in range(6)]
    world.tell(*(replace(Story(number).dispatched(), record_no=number) for number in range(6)))
    world.tell(numbered[0], numbered[3])
    projector = world.run()
    assert world.kinds() == []
    world.clock.advance(61)
    world.tell(numbered[4])
    world.run(projector)
    world.clock.advance(61)
    world.tell(numbered[5])
    world.run(projector)
    assert world.kinds() == ["records_missing"]
    assert {key: world.output()[-1].detail[key] for key in ("first", "last")} == {"first": 1, "last": 2}


def test_a_hole_that_a_heartbeat_closes_is_no_alarm() -> None:
    world = World()
    world.tell(*(replace(Story(number).dispatched(), record_no=number) for number in range(4)))
    world.tell(*(replace(Story(number).claimed(), record_no=number) for number in (0, 2)))
    projector = world.run()
    world.beat(heartbeat(1))
    world.run(projector)
    world.clock.advance(120)
    world.tell(replace(Story(3).claimed(), record_no=3))
    world.run(projector)
    assert world.kinds() == []


def test_one_trace_goes_from_the_record_to_its_folding() -> None:
    world = World()
    record = world.tell(Story(1).requested())[0]
    traced = replace(record, headers=(("traceparent", b"00-" + b"0" * 31 + b"7-" + b"0" * 15 + b"3-01"),))
    world.log.duplicate(traced)
    world.run()
    assert [(span.name, span.trace_id) for span in world.telemetry.spans][-1] == ("process response.results", 7)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=25),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(FAILPOINTS), st.integers(1, 4)), max_size=3),
)
def test_whatever_arrives_how_often_and_whenever_it_crashes_history_is_the_fold_of_its_steps(
    arrivals: list[tuple[int, int]], limit: int, crashes: list[tuple[str, int]]
) -> None:
    world = World(limit=limit)
    stories = [Story(number).whole() for number in range(4)]
    for number, index in arrivals:
        world.tell(stories[number][index])
    for place, nth in crashes:
        world.failpoints.arm(place, nth=nth)
    for _ in range(len(crashes) + 1):
        try:
            world.run()
            break
        except Crash:
            continue

    check(world)


def test_the_promise_notices_a_step_that_was_lost_and_one_that_was_added() -> None:
    world = World()
    world.tell(*WHOLE)
    world.run()
    world.tell(Story(1).alarmed())
    with pytest.raises(AssertionError, match="not the fold"):
        check(world)
    world.run()
    check(world)
    with world.store.begin() as tx:
        tx.put_steps([step_of(Story(2).requested(), CODEC)])
        tx.put_execution(fold(Story(2).id, [step_of(Story(2).requested(), CODEC)]))
    with pytest.raises(AssertionError, match="does not know"):
        check(world)

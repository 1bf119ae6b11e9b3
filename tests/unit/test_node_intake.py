"""From bytes to durable rows: what is believed, what is kept, what is answered."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.node import DISPATCHER_KEY, NODE, TOPIC, NodeBench, response_actions
from tests.fakes.signing import FakeSigner, fake_key
from tests.guarantees.node import check_all
from workers.domain.errors import LimitExceeded, MalformedMessage, PermanentFailure, TransientFailure
from workers.domain.ids import LogId
from workers.domain.journal_entry import EntryState
from workers.domain.log import topics
from workers.domain.log.record import LogPosition
from workers.domain.log.routing import partition_for
from workers.domain.outcome import Outcome, Stage
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    made.world.spawn(1)
    return made


def position(bench: NodeBench) -> LogPosition:
    (found,) = bench.journal.positions()
    return found


def test_a_command_and_the_offset_behind_it_become_durable_together(bench: NodeBench) -> None:
    command = bench.command()
    record = bench.send(command)
    bench.read()
    assert bench.state_of(command) is EntryState.RECEIVED
    assert bench.journal.next_offset(position(bench)) == record.offset + 1
    assert bench.commits() == 1


def test_a_failed_commit_leaves_neither_and_the_command_is_read_again(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    assert not bench.read()
    assert bench.state_of(command) is None
    assert bench.journal.positions() == {}
    assert bench.services.health.status == "journal"
    bench.journal.break_with(None)
    bench.clock.advance(2)
    bench.settle(patience_s=5)
    assert bench.services.health.status == "ok"
    assert [r.outcome for r in bench.results() if r.outcome] == [Outcome.COMPLETED]
    check_all(bench.observation())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "not_an_envelope"),
        (b"\x00\xff garbage", "not_an_envelope"),
        (b"[" * 100_000, "internal"),
        (b"x" * 1_000_001, "oversize"),
    ],
)
def test_bytes_that_are_no_command_cost_one_dead_letter_and_no_result(
    bench: NodeBench, value: bytes | None, reason: str
) -> None:
    bench.bus.max_bytes = 2_000_000
    record = bench.put(value)
    good = bench.command()
    bench.send(good)
    bench.settle()
    (letter,) = bench.dead_letters()
    assert letter.reason == reason
    assert letter.offset == record.offset
    assert [a.detail["reason"] for a in bench.audit("dead_letter")] == [reason]
    assert {r.execution_id for r in bench.results()} == {good.command_id}
    check_all(bench.observation())


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({}, fake_key("gateway", KeyRole.WORKER), "wrong_role"),
        ({}, fake_key("b" * 32, KeyRole.NODE), "wrong_role"),
        ({}, fake_key("mallory", KeyRole.DISPATCHER), "unknown_key"),
        ({"node_id": "b" * 32}, DISPATCHER_KEY, "wrong_node"),
        ({"node_key": "0" * 32}, DISPATCHER_KEY, "wrong_key"),
        ({"incarnation": "00000000-0000-7000-8000-000000000000"}, DISPATCHER_KEY, "wrong_incarnation"),
        ({"parameters_sha256": "0" * 64}, DISPATCHER_KEY, "wrong_parameters"),
        ({"expires_at_ns": 1}, DISPATCHER_KEY, "too_old"),
    ],
)
def test_a_command_that_is_not_ours_gets_a_dead_letter_and_an_audit_record_never_a_result(
    bench: NodeBench, change: dict[str, Any], key: Any, reason: str
) -> None:
    bench.send(replace(bench.command(), **change), key=key, genuine=False)
    bench.settle()
    assert [letter.reason for letter in bench.dead_letters()] == [reason]
    assert len(bench.audit("dead_letter")) == 1
    assert bench.results() == []
    assert bench.world.touched == 0
    check_all(bench.observation())


def test_a_signature_of_another_payload_type_does_not_make_a_command(bench: NodeBench) -> None:
    sealed = FakeSigner(DISPATCHER_KEY).sign(PayloadType.RESULT, bench.command())
    bench.put(sealed.value)
    bench.settle()
    assert [letter.reason for letter in bench.dead_letters()] == ["wrong_type"]


def test_every_flipped_byte_of_an_envelope_is_refused_before_anything_is_decoded(bench: NodeBench) -> None:
    value = FakeSigner(DISPATCHER_KEY).sign(PayloadType.COMMAND, bench.command()).value
    for at in range(len(value)):
        flipped = bytearray(value)
        flipped[at] ^= 0x01
        bench.put(bytes(flipped))
    bench.settle()
    assert len(bench.dead_letters()) == len(value)
    assert bench.results() == []
    assert bench.world.touched == 0


def test_another_nodes_record_only_moves_the_offset(bench: NodeBench) -> None:
    record = bench.put(b"anything at all", key=b"b" * 32)
    bench.settle()
    assert bench.journal.next_offset(position(bench)) == record.offset + 1
    assert bench.dead_letters() == []
    assert bench.audit() == []


def test_a_record_without_a_key_only_moves_the_offset(bench: NodeBench) -> None:
    bench.put(b"anything at all", key=None)
    bench.settle()
    assert bench.dead_letters() == []


@pytest.mark.parametrize(
    ("action", "change", "code"),
    [
        ("no_such_action", {}, "no_such_action_error_unsupported"),
        ("scripted_kill", {"parameters": {"depth": 1}}, "scripted_kill_error_invalid_parameters"),
        ("scripted_kill", {"parameters": {"level": "many"}}, "scripted_kill_error_invalid_parameters"),
        ("scripted_kill", {"target": None}, "scripted_kill_error_wrong_target"),
        ("scripted_kill", {"approval_class": "two"}, "scripted_kill_error_approval_missing"),
        ("scripted_start", {}, "scripted_start_error_undo_only"),
    ],
)
def test_a_genuine_command_that_may_not_run_is_rejected_in_the_commit_that_takes_it_in(
    bench: NodeBench, action: str, change: dict[str, Any], code: str
) -> None:
    command = bench.command(action, **change)
    bench.send(command)
    bench.read()
    assert bench.state_of(command) is EntryState.OBSERVED
    assert bench.commits() == 1
    assert bench.lanes.queued == 0
    bench.settle()
    (result,) = bench.results()
    assert (result.outcome, result.code, result.seq, result.attempt) == (Outcome.REJECTED, code, 1, 0)
    assert [a.kind for a in bench.audit()] == ["rejected"]
    check_all(bench.observation())


def test_an_expired_command_is_expired_and_not_rejected(bench: NodeBench) -> None:
    bench.send(bench.command(expires_at_ns=bench.clock.now_ns() - 1))
    bench.settle()
    assert [(r.outcome, r.late) for r in bench.results()] == [(Outcome.EXPIRED, False)]
    check_all(bench.observation())


def test_an_action_whose_trigger_is_none_is_rejected_whoever_signs() -> None:
    bench = NodeBench(settings=response_actions(enabled=False))
    bench.world.spawn(1)
    bench.send(bench.command())
    bench.settle()
    assert [r.code for r in bench.results()] == ["scripted_kill_error_disabled"]
    check_all(bench.observation())


def test_a_full_gathering_lane_answers_queue_full_and_containment_still_has_capacity() -> None:
    bench = NodeBench(settings=response_actions(queue_length=2))
    for number in range(1, 6):
        bench.world.spawn(number)
    copies = [bench.command("scripted_copy", number) for number in range(1, 5)]
    for command in (*copies, bench.command("scripted_kill", 5)):
        bench.send(command)
    bench.settle()
    codes = [bench.results(copy.command_id)[-1].code for copy in copies]
    assert codes == ["scripted_copy_success_ended"] * 2 + ["scripted_copy_error_queue_full"] * 2
    check_all(bench.observation())


def test_a_duplicate_moves_the_offset_and_has_the_very_same_answer_sent_again(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.settle()
    (answer,) = [r for r in bench.results() if r.stage is Stage.ENDED]
    again = bench.send(command)
    bench.settle()
    assert bench.journal.next_offset(position(bench)) == again.offset + 1
    assert [r for r in bench.results() if r.stage is Stage.ENDED] == [answer, answer]
    values = bench.bus.values(topics.RESULTS)
    assert values[-1] == values[-2], "byte for byte, or history would see a second step"
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_a_duplicate_in_the_same_batch_runs_once(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.send(command)
    bench.settle()
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_one_id_with_other_content_is_a_duplicate_of_the_first(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.settle()
    bench.world.spawn(2)
    bench.send(replace(command, target=bench.command(number=2).target))
    bench.settle()
    assert 2 in bench.world.alive


def test_a_gap_is_audited_and_reading_goes_on_behind_it(bench: NodeBench) -> None:
    bench.put(b"", key=b"b" * 32)
    bench.settle()
    for _ in range(5):
        bench.put(b"", key=b"b" * 32)
    bench.bus.truncate(TOPIC, partition=partition_for(NODE, 4), below=4)
    command = bench.command()
    bench.send(command)
    bench.restart()
    bench.settle()
    (record,) = bench.audit("gap")
    assert (record.detail["expected"], record.detail["resumed_at"]) == (1, 4)
    assert bench.journal.next_offset(position(bench)) == 7
    assert bench.results(command.command_id)[-1].outcome is Outcome.COMPLETED


def test_the_journal_floor_follows_verified_issue_times_and_nothing_else(bench: NodeBench) -> None:
    bench.put(b"garbage")
    bench.settle()
    assert bench.journal.floor_ns() < bench.clock.now_ns()
    ahead_ns = bench.clock.now_ns() + 5_000_000_000
    bench.send(bench.command(issued_at_ns=ahead_ns, not_before_ns=0))
    bench.settle()
    assert bench.journal.floor_ns() == ahead_ns


def test_a_command_from_the_future_is_refused_and_teaches_nothing_and_the_next_one_runs(bench: NodeBench) -> None:
    """A dispatcher a day ahead for a moment, with a genuine key."""
    bench.settle()
    ahead_ns = bench.clock.now_ns() + 86_400_000_000_000
    early = bench.command(issued_at_ns=ahead_ns, not_before_ns=ahead_ns, expires_at_ns=ahead_ns + 300_000_000_000)
    bench.send(early)
    bench.settle()
    (result,) = [each for each in bench.results(early.command_id) if each.outcome is not None]
    assert (result.outcome, result.code.endswith("issued_in_future")) == (Outcome.REJECTED, True)
    assert bench.telemetry.counts["node.clock_alarms"] == 1
    assert bench.journal.floor_ns() <= bench.clock.now_ns()
    bench.restart()
    bench.settle()
    later = bench.command(number=2)
    bench.send(later)
    bench.settle()
    assert bench.results(later.command_id)[-1].outcome in (Outcome.COMPLETED, Outcome.NO_ACTION)


def test_a_forged_issue_time_does_not_move_the_floor(bench: NodeBench) -> None:
    forger = fake_key("mallory", KeyRole.DISPATCHER)
    bench.send(bench.command(issued_at_ns=1 << 62), key=forger, genuine=False)
    bench.send(bench.command(issued_at_ns=1 << 62, node_id="b" * 32), genuine=False)
    bench.settle()
    assert bench.journal.floor_ns() < bench.clock.now_ns()


def test_a_broker_timestamp_decides_nothing(bench: NodeBench) -> None:
    command = bench.command()
    record = bench.send(command)
    forged = replace(record, timestamp_ns=1 << 62)
    bench.executor.take([forged])
    bench.settle()
    assert bench.results(command.command_id)[-1].outcome is Outcome.COMPLETED


def test_a_genuine_command_behind_poison_is_durable_first_and_the_offset_passes_all_in_the_end(
    bench: NodeBench,
) -> None:
    for _ in range(500):
        bench.put(b"poison")
    command = bench.command()
    last = bench.send(command)
    bench.put(b"poison")
    bench.failpoints.arm("node.intake.before_commit", nth=2)
    with pytest.raises(Crash):
        bench.read()
    assert bench.state_of(command) is EntryState.RECEIVED
    assert bench.journal.positions() == {}
    bench.restart()
    bench.settle()
    assert bench.journal.next_offset(position(bench)) == last.offset + 2
    assert len(bench.dead_letters()) == 501
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_commands_of_one_batch_share_one_commit(bench: NodeBench) -> None:
    for number in range(20):
        bench.world.spawn(number)
        bench.send(bench.command(number=number))
    before = bench.journal.commits
    bench.read()
    assert bench.journal.commits == before + 1


def test_an_idle_node_claims_a_local_action_in_the_commit_that_takes_it_in(bench: NodeBench) -> None:
    command = bench.command("quick_kill")
    bench.send(command)
    bench.read()
    assert bench.state_of(command) is EntryState.CLAIMED
    assert bench.commits() == 1
    assert bench.world.touched == 0
    bench.settle()
    assert [(r.stage, r.attempt, r.seq) for r in bench.results()] == [(Stage.CLAIMED, 1, 1), (Stage.ENDED, 1, 2)]
    check_all(bench.observation())


def test_an_idle_node_refuses_a_protected_target_in_the_commit_that_takes_it_in(bench: NodeBench) -> None:
    bench.world.protected.add(1)
    command = bench.command("quick_kill")
    bench.send(command)
    bench.read()
    assert bench.state_of(command) is EntryState.OBSERVED
    assert bench.commits() == 1
    bench.settle()
    check_all(bench.observation())


def test_a_busy_node_claims_in_the_lane(bench: NodeBench) -> None:
    bench.world.spawn(2)
    bench.send(bench.command("quick_kill", 1))
    bench.send(bench.command("quick_kill", 2))
    bench.read()
    assert {bench.journal.entry(c).state for c in bench.accepted} == {EntryState.RECEIVED}  # type: ignore[union-attr]
    bench.settle()
    check_all(bench.observation())


def test_the_trace_of_the_record_goes_on_to_every_result_and_audit_record(bench: NodeBench) -> None:
    bench.send(bench.command())
    bench.settle()
    for topic in (topics.RESULTS, topics.AUDIT):
        for record in bench.bus.records(topic):
            assert dict(record.headers)["traceparent"].startswith(b"00-%032x-" % 0xABC), topic


def test_results_carry_the_hash_of_the_signed_command(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.settle()
    payload = FakeSigner(DISPATCHER_KEY).sign(PayloadType.COMMAND, command).payload
    assert {r.command_sha256 for r in bench.results()} == {hashlib.sha256(payload).hexdigest()}


def test_a_new_log_starts_at_its_beginning_and_is_audited(bench: NodeBench) -> None:
    bench.send(bench.command())
    bench.settle()
    bench.bus.create_topic(TOPIC, 4)
    bench.restart()
    bench.world.spawn(2)
    fresh = bench.command(number=2)
    bench.send(fresh)
    bench.settle()
    assert len(bench.audit("new_log")) == 1
    assert bench.results(fresh.command_id)[-1].outcome is Outcome.COMPLETED
    logs = {position.log_id for position in bench.journal.positions()}
    assert logs == {LogId("fake-log"), LogId("fake-log+")}


def test_a_broker_that_is_unavailable_is_asked_again_and_loses_nothing(bench: NodeBench) -> None:
    bench.bus.down()
    with pytest.raises(TransientFailure):
        bench.feed.step(0.0)
    bench.bus.up()
    command = bench.command()
    bench.send(command)
    assert bench.read()
    bench.settle()
    check_all(bench.observation())


def test_a_journal_that_is_broken_for_good_stops_intake_and_crashes_nothing(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.journal.break_with(PermanentFailure("EIO", code="journal_io"))
    for _ in range(5):
        assert not bench.read()
        bench.clock.advance(3)
    assert bench.world.touched == 0
    assert bench.services.health.status == "journal"


def test_while_the_keyset_has_expired_commands_wait_and_none_is_put_aside(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expired(*_: object) -> None:
        raise MalformedMessage(code="keyset_expired")

    command = bench.command()
    bench.send(command)
    with monkeypatch.context() as patched:
        patched.setattr(bench.services.verifier, "verify", expired)
        assert not bench.read()
    assert bench.dead_letters() == []
    assert bench.journal.positions() == {}
    bench.settle()
    assert bench.results(command.command_id)[-1].outcome is Outcome.COMPLETED

"""What a start finds, and what a clean stop leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.failpoints import Crash
from tests.fakes.node import NodeBench, response_actions
from tests.guarantees.node import check_all
from workers.domain.command import ActionCommand
from workers.domain.errors import JournalUnavailable, LimitExceeded
from workers.domain.journal_entry import EntryState
from workers.domain.outcome import Outcome, Stage
from workers.domain.retry import ALONE, MAX_CRASHES, SHARED


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    made.world.spawn(1)
    return made


def crash_at(bench: NodeBench, place: str) -> None:
    bench.failpoints.arm(place)
    with pytest.raises(Crash):
        bench.settle()


def test_a_claimed_command_whose_effect_is_there_is_completed_and_unproven(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.after")
    bench.restart()
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.cause) == (Outcome.COMPLETED, "unproven")
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_a_claimed_command_without_effect_runs_again_as_the_next_attempt(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.restart()
    bench.settle()
    assert [(r.stage, r.attempt) for r in bench.results()] == [
        (Stage.CLAIMED, 1),
        (Stage.CLAIMED, 2),
        (Stage.ENDED, 2),
    ]
    check_all(bench.observation())


def test_a_target_that_was_replaced_meanwhile_is_not_the_one_that_was_claimed(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.after")
    bench.world.spawn(1)
    bench.restart()
    bench.settle()
    assert 1 in bench.world.alive, "the new holder of the number lives"
    check_all(bench.observation())


def test_a_claimed_command_that_expired_meanwhile_is_probed_and_not_run(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.clock.advance(1000)
    bench.restart()
    bench.settle()
    assert bench.results(command.command_id)[-1].outcome is Outcome.EXPIRED
    assert bench.world.touched == 0
    check_all(bench.observation())


def test_a_claimed_command_is_not_run_again_when_the_action_was_switched_off(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.settings = response_actions(enabled=False)
    bench.restart()
    bench.settle()
    assert bench.results(command.command_id)[-1].code == "scripted_kill_error_disabled"
    check_all(bench.observation())


def test_a_claimed_command_of_an_action_that_this_version_lacks_fails(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.restart()
    bench.services.catalogue.pop("scripted_kill")  # type: ignore[attr-defined]
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "scripted_kill_error_unsupported")


def damage_claim(bench: NodeBench, command: ActionCommand) -> None:
    """The journal holds a claim that this version cannot read."""
    entry = bench.journal.entry(command.command_id)
    assert entry is not None
    with bench.journal.begin() as tx:
        tx.put(replace(entry, claim={"number": "one"}))


def test_a_claim_that_cannot_be_read_ends_as_failed_and_nothing_is_run(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.restart()
    damage_claim(bench, command)
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "scripted_kill_error_claim_unreadable")
    assert (bench.world.touched, bench.telemetry.counts.get("node.bugs", 0)) == (0, 0)


def test_what_was_done_on_a_claim_that_cannot_be_read_is_not_undone(bench: NodeBench) -> None:
    command = bench.command("scripted_stop")
    bench.send(command)
    bench.settle()
    damage_claim(bench, command)
    bench.effect_watch.step()
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(undo)
    bench.settle()
    ended = bench.results(undo.command_id)[-1]
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "scripted_start_error_claim_unreadable")


def test_a_received_command_goes_on_and_an_expired_one_is_expired(bench: NodeBench) -> None:
    bench.world.spawn(2)
    going_on = bench.command(number=1)
    expiring = bench.command(number=2, expires_at_ns=bench.clock.now_ns() + 1)
    bench.send(going_on)
    bench.send(expiring)
    crash_at(bench, "node.intake.after_commit")
    bench.clock.advance(1)
    bench.restart()
    bench.settle()
    assert bench.results(going_on.command_id)[-1].outcome is Outcome.COMPLETED
    assert bench.results(expiring.command_id)[-1].outcome is Outcome.EXPIRED
    check_all(bench.observation())


def test_an_observed_command_is_only_published(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.observe.after_commit")
    bench.restart()
    assert bench.lanes.queued == 0
    bench.settle()
    assert bench.state_of(command) is EntryState.PUBLISHED
    check_all(bench.observation())


def test_records_that_were_sent_and_not_acknowledged_are_sent_again_and_change_nothing(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.acknowledge.before")
    bench.restart()
    bench.settle()
    assert len(bench.results()) > len({(r.attempt, r.seq) for r in bench.results()})
    check_all(bench.observation())


def test_the_third_crash_on_one_command_is_its_last_and_the_others_flow(bench: NodeBench) -> None:
    bench.world.spawn(2)
    poison, other = bench.command(number=1), bench.command(number=2)
    bench.send(poison)
    for _ in range(3):
        crash_at(bench, "node.execute.before")
        bench.restart()
    bench.send(other)
    bench.settle()
    ended = bench.results(poison.command_id)[-1]
    assert (ended.outcome, ended.code) == (Outcome.FAILED, "scripted_kill_error_poison_action")
    assert bench.failpoints.passes.count("node.execute.before") == 4
    assert bench.results(other.command_id)[-1].outcome is Outcome.COMPLETED
    check_all(bench.observation())


def test_a_clean_stop_is_no_crash(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    bench.world.unsure.add(1)
    command = bench.command()
    bench.send(command)
    for _ in range(10):
        bench.settle(patience_s=3)
        bench.recovery.leave(bench.watch.running)
        bench.restart()
    bench.world.unsure.clear()
    bench.settle(patience_s=60)
    ended = bench.results(command.command_id)[-1]
    assert ended.outcome is Outcome.COMPLETED
    check_all(bench.observation())


def test_what_still_runs_at_a_stop_stays_counted(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.restart()
    bench.recovery.leave(frozenset({command.command_id}))
    entry = bench.journal.entry(command.command_id)
    assert entry is not None
    assert entry.crashes == 1


def test_nothing_runs_before_the_crashes_are_counted_durably(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    crash_at(bench, "node.execute.before")
    bench.restart()
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    with pytest.raises(JournalUnavailable):
        bench.recovery.start()
    assert bench.world.touched == 0


def test_an_unknown_outcome_survives_a_restart_as_a_question_not_as_a_rerun(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang_after"]
    command = bench.command()
    bench.send(command)
    bench.settle()
    bench.restart()
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.cause) == (Outcome.COMPLETED, "unproven")
    assert bench.world.touched == 1
    check_all(bench.observation())


def at_work(bench: NodeBench, first: ActionCommand, second: ActionCommand) -> None:
    """Both are inside their action, and the worker dies."""
    bench.send(first)
    crash_at(bench, "node.execute.before")
    bench.send(second)
    bench.read()
    with bench.journal.begin() as tx:
        entry = tx.entry(second.command_id)
        assert entry is not None
        claim = {"number": 2, "incarnation": bench.world.alive[2]}
        tx.put(replace(entry, state=EntryState.CLAIMED, attempt=1, claim=claim, executing=True))
    bench.restart()


def blame(bench: NodeBench, command: ActionCommand) -> int:
    entry = bench.journal.entry(command.command_id)
    assert entry is not None
    return entry.blame


def test_only_what_was_alone_at_work_is_blamed_for_a_death(bench: NodeBench) -> None:
    bench.world.spawn(2)
    guilty, bystander = bench.command(number=1), bench.command(number=2)
    at_work(bench, guilty, bystander)
    assert (blame(bench, guilty), blame(bench, bystander)) == (SHARED, SHARED)
    crash_at(bench, "node.execute.before")  # the first of them runs alone
    bench.restart()
    assert (blame(bench, guilty), blame(bench, bystander)) == (SHARED + ALONE, SHARED)
    bench.turn()
    assert bench.state_of(bystander) is EntryState.OBSERVED, "the least blamed goes first, and is done"
    assert bench.state_of(guilty) is EntryState.CLAIMED


def test_a_reversible_effect_that_is_given_up_counts_as_held_and_can_be_undone(bench: NodeBench) -> None:
    command = bench.command("scripted_stop")
    bench.send(command)
    crash_at(bench, "node.execute.after")
    for _ in range(2 * MAX_CRASHES - 1):
        bench.restart()
        crash_at(bench, "node.observe.before_commit")
    bench.restart()
    touched = bench.world.touched
    bench.settle()
    ended = bench.results(command.command_id)[-1]
    assert (ended.outcome, ended.code, ended.effect_holds, ended.cause) == (
        Outcome.PARTIAL,
        "scripted_stop_error_poison_action",
        True,
        "unproven",
    )
    assert bench.world.touched == touched
    undo = bench.command("scripted_start", undo_of=command.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].outcome is Outcome.COMPLETED
    check_all(bench.observation())

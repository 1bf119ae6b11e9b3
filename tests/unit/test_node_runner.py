"""One command from its journal entry to its outcome: the order of effects, retries, unknowns, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.node import NodeBench
from tests.guarantees.node import EveryAcceptedCommandEndsInExactlyOneOutcome, check_all
from workers.domain.errors import CommandRejected, LimitExceeded, TransientFailure
from workers.domain.journal_entry import EntryState
from workers.domain.outcome import Outcome, Report, Stage
from workers.domain.request import Actor, ActorKind
from workers.node.deadline_watch import ALARM
from workers.settings import ResponseActions


@pytest.fixture
def bench() -> NodeBench:
    made = NodeBench()
    made.world.spawn(1)
    return made


def steps(bench: NodeBench, command: Any) -> list[tuple[str, int, int]]:
    """(outcome or stage, attempt, seq) of each result, in order."""
    return [(r.outcome or r.stage, r.attempt, r.seq) for r in bench.results(command.command_id)]


def test_intent_is_durable_before_the_effect_and_the_outcome_before_the_answer(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert [name for name in bench.failpoints.passes if name.startswith("node.")] == [
        "node.intake.before_commit",
        "node.intake.after_commit",
        "node.claim.before_commit",
        "node.claim.after_commit",
        "node.execute.before",
        "node.execute.after",
        "node.observe.before_commit",
        "node.observe.after_commit",
        "node.acknowledge.before",
    ]
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (Outcome.COMPLETED, 1, 2)]
    assert [a.kind for a in bench.audit()] == ["intent", "outcome"]
    assert bench.state_of(command) is EntryState.PUBLISHED
    check_all(bench.observation())


def test_the_claimed_result_names_what_it_is_bound_to_and_how_the_node_was_configured(bench: NodeBench) -> None:
    bench.send(bench.command())
    bench.settle()
    claimed = bench.results()[0]
    assert claimed.outputs == {"number": 1, "incarnation": 1}
    assert claimed.configuration["trigger"] == "ALL"
    assert claimed.configuration["timeout"] == 60


def test_a_protected_target_is_rejected_and_untouched(bench: NodeBench) -> None:
    bench.world.protected.add(1)
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Outcome.REJECTED, 0, 1)]
    assert bench.results()[0].code == "scripted_kill_error_protected_target"
    assert bench.world.touched == 0
    check_all(bench.observation())


def test_a_target_that_is_gone_is_no_action(bench: NodeBench) -> None:
    bench.world.alive.clear()
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command)[-1][0] is Outcome.NO_ACTION
    check_all(bench.observation())


def test_a_dry_run_binds_and_touches_nothing(bench: NodeBench) -> None:
    command = bench.command(dry_run=True)
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Outcome.DRY_RUN, 0, 1)]
    assert bench.world.touched == 0
    check_all(bench.observation())


def test_a_dry_run_of_a_protected_target_reports_that(bench: NodeBench) -> None:
    bench.world.protected.add(1)
    bench.send(bench.command(dry_run=True))
    bench.settle()
    assert bench.results()[0].code == "scripted_kill_error_protected_target"


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ("permanent", Outcome.FAILED, "permission"),
        ("limit", Outcome.FAILED, "too_large"),
        ("reject", Outcome.REJECTED, "target_changed"),
        ("bug", Outcome.FAILED, "internal"),
    ],
)
def test_whatever_an_action_raises_becomes_one_outcome(
    bench: NodeBench, script: str, outcome: Outcome, code: str
) -> None:
    bench.world.scripts[1] = [script]
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (outcome, 1, 2)]
    assert bench.results()[-1].code == f"scripted_kill_error_{code}"
    check_all(bench.observation())


def test_a_bug_is_counted_and_logged_and_its_text_stays_out_of_the_result(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["bug"]
    bench.send(bench.command())
    bench.settle()
    assert bench.telemetry.counts["node.bugs"] == 1
    assert "secret text" not in bench.results()[-1].message
    assert "secret text" not in str(bench.telemetry.lines)


def test_a_transient_failure_is_tried_again_under_a_new_attempt(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["transient", "transient"]
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [
        (Stage.CLAIMED, 1, 1),
        (Stage.CLAIMED, 2, 2),
        (Stage.CLAIMED, 3, 3),
        (Outcome.COMPLETED, 3, 4),
    ]
    assert len(bench.audit("intent")) == 3
    check_all(bench.observation())


def test_a_failure_called_transient_is_not_tried_again_when_the_effect_is_there(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["transient_after"]
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert bench.world.touched == 1
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (Outcome.COMPLETED, 1, 2)]
    check_all(bench.observation())


def test_retries_end_with_the_deadline(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["transient"] * 1000
    command = bench.command(expires_at_ns=bench.clock.now_ns() + 10_000_000_000)
    bench.send(command)
    bench.settle(patience_s=100)
    assert bench.clock.now_ns() <= command.expires_at_ns
    assert steps(bench, command)[-1][0] is Outcome.FAILED
    assert bench.results()[-1].code == "scripted_kill_error_unavailable"
    check_all(bench.observation())


def test_a_run_never_retries_past_its_own_timeout(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["transient"] * 1000
    bench.send(bench.command(timeout_s=5))
    bench.settle(patience_s=1000)
    assert bench.world.touched == 6


def test_a_runtime_that_cannot_be_asked_is_asked_again_before_anything_is_claimed(bench: NodeBench) -> None:
    bench.world.admit_fails[1] = [TransientFailure(), TransientFailure()]
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (Outcome.COMPLETED, 1, 2)]
    check_all(bench.observation())


def test_a_bug_in_admit_rejects_nothing_it_fails(bench: NodeBench) -> None:
    bench.world.admit_fails[1] = [KeyError("x")]
    bench.send(bench.command())
    bench.settle()
    assert bench.results()[-1].outcome is Outcome.FAILED
    assert bench.world.touched == 0


def test_a_time_out_is_unknown_until_a_probe_settles_it(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang_after"]
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (Outcome.UNKNOWN, 1, 2)]
    assert bench.state_of(command) is EntryState.CLAIMED
    bench.settle(patience_s=10)
    assert steps(bench, command)[-1] == (Outcome.COMPLETED, 1, 3)
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_an_unknown_that_had_no_effect_runs_again_while_it_may(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    command = bench.command()
    bench.send(command)
    bench.settle(patience_s=10)
    assert steps(bench, command) == [
        (Stage.CLAIMED, 1, 1),
        (Outcome.UNKNOWN, 1, 2),
        (Stage.CLAIMED, 2, 3),
        (Outcome.COMPLETED, 2, 4),
    ]
    check_all(bench.observation())


def test_an_unknown_that_had_no_effect_by_its_expiry_is_timed_out_and_runs_no_more(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    command = bench.command(expires_at_ns=bench.clock.now_ns() + 500_000_000)
    bench.send(command)
    bench.settle(patience_s=10)
    assert steps(bench, command)[-1][0] is Outcome.TIMED_OUT
    assert bench.results()[-1].late
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_unknowns_are_probed_at_growing_intervals_and_never_run_meanwhile(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    bench.world.unsure.add(1)
    command = bench.command()
    bench.send(command)
    bench.settle()
    due = []
    for _ in range(9):
        due_ns = bench.lanes.next_due_ns(bench.gate.action(command).lane)
        assert due_ns is not None
        due.append((due_ns - bench.clock.monotonic_ns()) / 1e9)
        bench.settle(patience_s=due[-1])
    assert due == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert bench.world.touched == 1


def test_a_change_of_an_unknown_is_reported_once(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    bench.world.unsure.add(1)
    command = bench.command()
    bench.send(command)
    bench.settle(patience_s=100)
    codes = [r.code for r in bench.results(command.command_id) if r.outcome is Outcome.UNKNOWN]
    assert codes == ["scripted_kill_error_indeterminate", "scripted_kill_error_pending"]


def test_an_unknown_beyond_its_time_raises_one_alarm_and_is_looked_into_for_ever(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["hang"]
    bench.world.unsure.add(1)
    command = bench.command()
    bench.send(command)
    bench.settle(patience_s=300 + 60 - 10)
    assert not any(r.alarm for r in bench.results())
    bench.settle(patience_s=1000)
    assert [r.alarm for r in bench.results() if r.alarm] == [ALARM]
    assert len(bench.audit("alarm")) == 1
    bench.world.unsure.clear()
    bench.world.alive.clear()
    bench.settle(patience_s=60)
    assert bench.results()[-1].outcome is Outcome.COMPLETED
    assert bench.results()[-1].late


def test_a_probe_that_trips_over_itself_settles_nothing(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    command = bench.command()
    bench.send(command)
    bench.read()
    bench.world.scripts[1] = ["hang"]
    bench.turn()
    monkeypatch.setattr(bench.services.catalogue["scripted_kill"], "probe", _trip)
    bench.settle(patience_s=5)
    assert bench.results(command.command_id)[-1].code == "scripted_kill_error_probe_failed"
    assert bench.world.touched == 1


def _trip(*_: object) -> None:
    raise RuntimeError("bug")


def test_an_effect_is_reported_late_when_the_command_expired_while_it_ran(bench: NodeBench) -> None:
    command = bench.command()
    bench.world.during = lambda place: bench.clock.advance(400) if place == "after" else None
    bench.send(command)
    bench.settle()
    (ended,) = [r for r in bench.results() if r.stage is Stage.ENDED]
    assert (ended.outcome, ended.late) == (Outcome.COMPLETED, True)


def test_a_command_that_expires_in_the_queue_never_starts(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.read()
    bench.clock.advance(301)
    bench.settle()
    assert steps(bench, command) == [(Outcome.EXPIRED, 0, 1)]
    check_all(bench.observation())


def test_every_failed_attempt_is_probed_once(bench: NodeBench) -> None:
    bench.world.scripts[1] = ["transient"] * 1000
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert bench.results(command.command_id)[-1].outcome is Outcome.FAILED
    assert bench.world.touched > 1
    assert bench.world.probed == bench.world.touched


def test_a_command_that_expires_while_a_runtime_is_asked_never_starts(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = bench.services.catalogue["scripted_kill"]
    bound = action.bind

    def slowly(*args: Any) -> Any:
        bench.clock.advance(301)
        return bound(*args)

    monkeypatch.setattr(action, "bind", slowly)
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert steps(bench, command) == [(Outcome.EXPIRED, 0, 1)]
    assert bench.world.touched == 0


def test_a_command_that_is_to_start_later_is_rejected_because_no_node_can_put_it_off(bench: NodeBench) -> None:
    command = bench.command(not_before_ns=bench.clock.now_ns() + 20_000_000_000)
    bench.send(command)
    bench.settle()
    assert bench.results()[-1].code.endswith("unsupported")
    assert steps(bench, command) == [(Outcome.REJECTED, 0, 1)]
    assert bench.world.touched == 0


def test_a_full_journal_stops_claiming_and_nothing_is_done(bench: NodeBench) -> None:
    command = bench.command()
    bench.send(command)
    bench.read()
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    for _ in range(5):
        bench.turn()
        bench.clock.advance(2)
    assert bench.world.touched == 0
    assert bench.services.health.status == "journal"
    bench.journal.break_with(None)
    bench.settle(patience_s=5)
    assert steps(bench, command)[-1][0] is Outcome.COMPLETED
    assert bench.services.health.status == "ok"
    check_all(bench.observation())


def test_an_outcome_that_the_journal_will_not_take_is_kept_until_it_does(bench: NodeBench) -> None:
    def fill(place: str) -> None:
        if place == "after":
            bench.journal.break_with(LimitExceeded("full", code="journal_full"))
            bench.world.unsure.add(1)  # so that a probe could not have told

    bench.world.during = fill
    command = bench.command()
    bench.send(command)
    bench.settle()
    assert bench.state_of(command) is EntryState.CLAIMED
    bench.journal.break_with(None)
    bench.settle(patience_s=5)
    assert steps(bench, command) == [(Stage.CLAIMED, 1, 1), (Outcome.COMPLETED, 1, 2)]
    assert bench.world.touched == 1
    check_all(bench.observation())


def test_people_overtake_a_flood_of_rules(bench: NodeBench) -> None:
    rule = Actor(ActorKind.RULE, "miner")
    for number in range(2, 12):
        bench.world.spawn(number)
        bench.send(bench.command(number=number, actor=rule))
    person = bench.command(number=1)
    bench.send(person)
    bench.settle()
    assert bench.world.effects[0].execution_id == person.command_id


def test_commands_on_one_target_run_one_after_the_other(bench: NodeBench) -> None:
    first, second = bench.command(), bench.command()
    bench.send(first)
    bench.send(second)
    bench.settle()
    assert steps(bench, first)[-1][0] is Outcome.COMPLETED
    assert steps(bench, second)[-1][0] is Outcome.NO_ACTION
    check_all(bench.observation())


def test_an_overdue_run_is_reported_unknown_while_it_runs_and_ends_when_it_returns(bench: NodeBench) -> None:
    def overrun(place: str) -> None:
        if place == "before":
            bench.clock.advance(63)
            bench.watch.step()
            bench.watch.step()
            bench.clock.advance(400)
            bench.watch.step()
            bench.watch.step()

    bench.world.during = overrun
    command = bench.command()
    bench.send(command)
    bench.settle()
    reported = [(r.outcome, r.alarm) for r in bench.results(command.command_id)]
    assert reported == [(None, ""), (Outcome.UNKNOWN, ""), (None, ALARM), (Outcome.COMPLETED, "")]
    assert bench.results()[1].code == "scripted_kill_error_overdue"
    EveryAcceptedCommandEndsInExactlyOneOutcome().check(bench.observation())


def test_a_late_writer_finds_the_execution_ended_and_changes_nothing(bench: NodeBench) -> None:
    command = bench.command()

    def end_it(place: str) -> None:
        entry = bench.journal.entry(command.command_id)
        if place == "after" and entry is not None:
            with bench.transitions.commit() as tx:
                bench.transitions.end(
                    tx, entry, command, Report(Outcome.COMPLETED, "scripted_kill_success_seen", "seen")
                )

    bench.world.during = end_it
    bench.send(command)
    bench.settle()
    assert [r.code for r in bench.results() if r.outcome] == ["scripted_kill_success_seen"]
    check_all(bench.observation())


def test_an_undo_takes_everything_from_the_nodes_own_journal(bench: NodeBench) -> None:
    stop = bench.command("scripted_stop")
    bench.send(stop)
    bench.settle()
    undo = bench.command("scripted_start", 99, undo_of=stop.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].outcome is Outcome.COMPLETED
    assert bench.results(undo.command_id)[-1].undo_of == stop.command_id
    assert 1 in bench.world.alive


@pytest.mark.parametrize(
    ("forward", "undo", "code"),
    [
        ("scripted_kill", "scripted_start", "not_reversible"),
        ("scripted_kill", "scripted_kill", "not_reversible"),
        ("scripted_stop", "scripted_kill", "not_reversible"),
        (None, "scripted_start", "nothing_to_revert"),
    ],
)
def test_what_cannot_be_undone_is_rejected(bench: NodeBench, forward: str | None, undo: str, code: str) -> None:
    before = bench.command(forward or "scripted_stop")
    if forward:
        bench.send(before)
        bench.settle()
    touched = bench.world.touched
    command = bench.command(undo, undo_of=before.command_id, target=None)
    bench.send(command)
    bench.settle()
    assert bench.results(command.command_id)[-1].outcome is Outcome.REJECTED
    assert bench.results(command.command_id)[-1].code == f"{undo}_error_{code}"
    assert bench.world.touched == touched


def test_what_had_no_effect_has_nothing_to_revert(bench: NodeBench) -> None:
    bench.world.alive.clear()
    stop = bench.command("scripted_stop")
    bench.send(stop)
    bench.settle()
    undo = bench.command("scripted_start", undo_of=stop.command_id, target=None)
    bench.send(undo)
    bench.settle()
    assert bench.results(undo.command_id)[-1].code == "scripted_start_error_nothing_to_revert"


def test_a_refusal_after_the_claim_is_the_actions_word_that_nothing_was_touched(bench: NodeBench) -> None:
    bench.world.admit_fails[1] = [CommandRejected("no", code="unbindable")]
    bench.send(bench.command())
    bench.settle()
    assert bench.results()[-1].code == "scripted_kill_error_unbindable"
    assert bench.audit("intent") == []


def test_the_alarm_for_an_overdue_run_counts_this_nodes_own_bound_not_the_longer_timeout_of_the_command() -> None:
    bench = NodeBench(settings=ResponseActions(timeout=5))
    bench.world.spawn(1)

    def overrun(place: str) -> None:
        if place == "before":
            bench.clock.advance(300 + 5 + 1)
            bench.watch.step()
            bench.watch.step()

    bench.world.during = overrun
    command = bench.command(timeout_s=60)
    bench.send(command)
    bench.settle()
    assert ALARM in [result.alarm for result in bench.results(command.command_id)]

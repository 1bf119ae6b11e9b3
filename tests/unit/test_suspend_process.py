"""suspend_process and its undo on a scripted process table: what is stopped, watched and resumed, and what is not."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.failpoints import Crash
from tests.process_bench import PERSON, World, reason_of
from workers.actions.base import Done, Effect, NotDone
from workers.actions.suspend_process import ResumeProcess, SuspendProcess
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.ids import NO_EXECUTION
from workers.domain.outcome import Outcome, Report
from workers.domain.target import ContainerTarget, ProcessTarget


@pytest.fixture
def world() -> World:
    return World(SuspendProcess())


def test_the_events_process_is_stopped_and_the_report_proves_it(world: World) -> None:
    miner = world.miner()
    report = world.run(world.observed(miner))
    assert (report.outcome, report.code) == (Outcome.COMPLETED, "suspend_process_success_suspended")
    assert (miner.alive, miner.facts.state, miner.signals) == (True, "T", [signal.SIGSTOP])
    assert report.effect_holds
    assert report.post_condition is not None
    assert report.post_condition.holds
    assert report.outputs["pid"] == miner.facts.pid
    assert report.outputs["identity"] == "pid_before_event"
    assert all(handle.closed for handle in world.processes.handles)


def test_a_process_that_was_stopped_already_is_watched_and_not_touched(world: World) -> None:
    miner = world.miner(state="T")
    job = world.observed(miner)
    report = world.run(job)
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "already_suspended")
    assert report.effect_holds, "a process may stop itself just while it is read"
    found = world.action.probe(job, world.bind(job), world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.effect_holds) == (Outcome.NO_ACTION, True)
    assert miner.signals == []


def test_an_ancestor_is_stopped_and_its_child_is_not(world: World) -> None:
    shell = world.miner()
    child = world.miner(parent_pid=shell.facts.pid)
    report = world.run(world.job(world.event(child.facts.pid, shell.facts.pid), ancestor=1))
    assert report.outputs["pid"] == shell.facts.pid
    assert (shell.facts.state, child.facts.state) == ("T", "S")


def test_a_person_may_name_a_bare_pid(world: World) -> None:
    report = world.run(world.job(world.event(world.miner().facts.pid), actor=PERSON, event=""))
    assert report.outputs["identity"] == "pid_at_intake"


@pytest.mark.parametrize("when", ["before the claim", "after the claim"])
def test_another_process_that_has_the_pid_now_is_left_alone(world: World, when: str) -> None:
    miner = world.miner()
    job = world.observed(miner)
    world.clock.advance(1)
    if when == "before the claim":
        innocent = world.processes.spawn(pid=miner.facts.pid)
        claim = world.bind(job)
    else:
        claim = world.bind(job)
        innocent = world.processes.spawn(pid=miner.facts.pid)
    report = world.action.execute(job, claim, world.host)
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "target_gone")
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.NO_ACTION
    assert (innocent.facts.state, innocent.signals) == ("S", [])


def test_a_protected_process_is_refused_before_anything_is_touched(world: World) -> None:
    worker = world.miner(pid=900)
    with pytest.raises(CommandRejected) as refusal:
        world.run(world.observed(worker))
    assert refusal.value.reason == "protected_target"
    assert worker.signals == []


@pytest.mark.parametrize("target", [ContainerTarget("0" * 64, 1), ProcessTarget((), 1), None])
def test_a_target_that_is_no_process_is_refused(world: World, target: Any) -> None:
    with pytest.raises(CommandRejected) as refusal:
        world.action.admit(world.job(target), world.host)
    assert refusal.value.reason == "invalid_target"


@pytest.mark.parametrize(
    "disguise",
    [
        {"name": "sshd", "command_line": "sshd: root@pts/0"},
        {"exe": "/usr/sbin/sshd"},
        {"exe": "", "name": "", "command_line": ""},
        {"name": "a) T 1 (b\n"},
        {"cgroup": "/system.slice/douse.service"},
        {"uid": 0},
        {"parent_pid": 900},
    ],
)
def test_nothing_that_the_target_can_write_about_itself_protects_it(world: World, disguise: dict[str, Any]) -> None:
    miner = world.miner()
    job = world.observed(miner)
    claim = world.bind(job)
    miner.facts = replace(miner.facts, **disguise)
    assert world.action.execute(job, claim, world.host).outcome is Outcome.COMPLETED
    disguised = world.miner(**disguise)
    assert world.run(world.observed(disguised)).outcome is Outcome.COMPLETED


def test_a_main_thread_that_is_held_in_a_call_is_no_shield_for_the_others(world: World) -> None:
    miner = world.miner()
    miner.shielded = True
    report = world.run(world.observed(miner))
    assert report.outcome is Outcome.COMPLETED
    assert signal.SIGSTOP in miner.each
    assert "1 of 2 threads are held in a call that nothing interrupts" in report.message


def test_one_that_loses_a_stop_because_it_executes_just_then_is_signalled_again(world: World) -> None:
    miner = world.miner()
    miner.slips = 5
    report = world.run(world.observed(miner))
    assert (report.outcome, miner.facts.state) == (Outcome.COMPLETED, "T")


@pytest.mark.parametrize(("hold", "reason"), [("freeze", "frozen cgroup"), ("stick", "state D")])
def test_one_that_cannot_stop_yet_runs_nothing_before_it_does(world: World, hold: str, reason: str) -> None:
    miner = world.miner()
    job = world.observed(miner)
    getattr(miner, hold)()
    claim = world.bind(job)
    assert isinstance(world.action.probe(job, claim, world.host), NotDone), "held, but no stop waits yet"
    report = world.action.execute(job, claim, world.host)
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
    assert reason in report.message
    assert world.action.lost(Effect(claim, report.outputs), world.host) == ""
    miner.thaw() if hold == "freeze" else miner.unstick()
    assert miner.facts.state == "T"
    assert world.action.lost(Effect(claim, report.outputs), world.host) == ""


def test_a_tracer_is_reported(world: World) -> None:
    miner = world.miner()
    miner.traced = True
    report = world.run(world.observed(miner))
    assert report.outcome is Outcome.COMPLETED
    assert "state t" in report.message


def test_one_that_is_continued_at_once_is_retried_and_then_a_failure(world: World) -> None:
    miner = world.miner()
    miner.guarded = True
    job = world.observed(miner)
    claim = world.bind(job)
    with pytest.raises(TransientFailure) as failure:
        world.action.execute(job, claim, world.host)
    assert failure.value.reason == "runs_on"
    assert isinstance(world.action.probe(job, claim, world.host), NotDone)


def test_one_that_ends_meanwhile_needs_no_stopping(world: World) -> None:
    miner = world.miner()
    job = world.observed(miner)
    claim = world.bind(job)
    miner.before_signal = lambda _: miner.end()
    assert reason_of(world.action.execute(job, claim, world.host)) == "target_gone"
    assert reason_of(world.action.execute(job, claim, world.host)) == "target_gone"


@pytest.mark.parametrize("place", SuspendProcess.failpoints)
def test_a_crash_after_the_signal_is_found_done(world: World, place: str) -> None:
    miner = world.miner()
    job = world.observed(miner)
    claim = world.bind(job)
    world.failpoints.arm(place)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause, found.report.effect_holds) == (
        Outcome.COMPLETED,
        "unproven",
        True,
    )


def test_a_lost_stop_is_noticed(world: World) -> None:
    miner = world.miner()
    job = world.observed(miner)
    claim = world.bind(job)
    held = Effect(claim, world.action.execute(job, claim, world.host).outputs)
    assert world.action.lost(held, world.host) == ""
    miner.go_on()
    assert "was continued" in world.action.lost(held, world.host)
    miner.end()
    assert "has ended" in world.action.lost(held, world.host)
    world.processes.spawn(pid=miner.facts.pid, state="T")
    assert "has ended" in world.action.lost(held, world.host)


def test_without_permission_it_fails_with_the_reason(world: World) -> None:
    miner = world.miner()
    miner.permitted = False
    with pytest.raises(PermanentFailure) as failure:
        world.run(world.observed(miner))
    assert failure.value.reason == "permission"
    assert all(handle.closed for handle in world.processes.handles)


@pytest.mark.parametrize(
    ("state", "message"),
    [("S", "would suspend process"), ("T", "is stopped already"), ("", "would do nothing: it has")],
)
def test_a_dry_run_reports_what_would_stop_and_touches_nothing(world: World, state: str, message: str) -> None:
    miner = world.miner(state=state or "S")
    job = world.observed(miner)
    if not state:
        miner.end()
    report = world.action.dry_run_report(job, world.bind(job), world.host)
    assert report.outcome is Outcome.DRY_RUN
    assert message in report.message
    assert world.processes.effects == 0


# --- resume_process ---------------------------------------------------------------------------------------------------


class Undo:
    """A suspension that was done, and its undo."""

    def __init__(self) -> None:
        self.world = World(SuspendProcess())
        self.miner = self.world.miner()
        forward = self.world.observed(self.miner)
        claim = self.world.bind(forward)
        report = self.world.action.execute(forward, claim, self.world.host)
        self.world.action = ResumeProcess()
        self.job = self.world.job(forward.target, undoes=Effect(claim, report.outputs))
        self.miner.signals.clear()

    def bind(self) -> Any:
        return self.world.bind(self.job)

    def run(self, claim: Any | None = None) -> Report:
        return self.world.action.execute(self.job, claim or self.bind(), self.world.host)


def undo_refused(undo: Undo) -> str:
    with pytest.raises(CommandRejected) as why:
        undo.bind()
    return why.value.reason


def test_a_resumed_process_runs_on_where_it_was_stopped() -> None:
    undo = Undo()
    report = undo.run()
    assert (report.outcome, reason_of(report)) == (Outcome.COMPLETED, "resumed")
    assert not report.effect_holds
    assert (undo.miner.facts.state, undo.miner.signals) == ("S", [signal.SIGCONT])
    assert all(handle.closed for handle in undo.world.processes.handles)


def test_a_resume_takes_back_a_stop_that_is_still_pending() -> None:
    undo = Undo()
    undo.miner.go_on()
    undo.miner.freeze()
    undo.miner.take(signal.SIGSTOP)
    assert undo.run().outcome is Outcome.COMPLETED
    undo.miner.thaw()
    assert undo.miner.facts.state == "S"


def test_a_process_that_runs_already_is_not_resumed() -> None:
    undo = Undo()
    undo.miner.go_on()
    report = undo.run()
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "not_suspended")
    assert undo.miner.signals == []


def test_another_process_that_has_the_pid_now_is_not_resumed() -> None:
    undo = Undo()
    claim = undo.bind()
    stranger = undo.world.processes.spawn(pid=undo.miner.facts.pid, state="T")
    assert undo_refused(undo) == "nothing_to_revert"
    report = undo.run(claim)
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "target_gone")
    found = undo.world.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.NO_ACTION
    assert (stranger.facts.state, stranger.signals) == ("T", [])


def test_a_process_that_was_not_suspended_here_is_not_resumed() -> None:
    undo = Undo()
    undo.job = undo.world.job(undo.job.target, undoes=None)
    assert undo_refused(undo) == "nothing_to_revert"
    others = Undo()
    assert others.job.undoes is not None
    stopped_before = replace(others.job.undoes.claim, stopped_before=True)
    others.job = others.world.job(others.job.target, undoes=Effect(stopped_before, {}))
    assert undo_refused(others) == "nothing_to_revert"
    undo.job = replace(undo.job, command=replace(undo.job.command, undo_of=NO_EXECUTION))
    assert undo_refused(undo) == "undo_only"


def test_a_resume_of_a_process_that_ends_meanwhile_does_nothing() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.miner.before_signal = lambda _: undo.miner.end()
    assert reason_of(undo.run(claim)) == "target_gone"


def test_a_resume_of_a_process_that_is_stopped_again_is_retried() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.miner.held_down = True
    with pytest.raises(TransientFailure) as failure:
        undo.run(claim)
    assert failure.value.reason == "stopped_again"
    assert isinstance(undo.world.action.probe(undo.job, claim, undo.world.host), NotDone)


@pytest.mark.parametrize("place", ResumeProcess.failpoints)
def test_a_resume_is_found_done_after_a_crash_behind_the_signal(place: str) -> None:
    undo = Undo()
    claim = undo.bind()
    assert isinstance(undo.world.action.probe(undo.job, claim, undo.world.host), NotDone)
    undo.world.failpoints.arm(place)
    with pytest.raises(Crash):
        undo.run(claim)
    found = undo.world.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")


def test_a_dry_run_of_a_resume_touches_nothing() -> None:
    undo = Undo()
    assert undo.world.action.dry_run_report(undo.job, undo.bind(), undo.world.host).outcome is Outcome.DRY_RUN
    assert undo.miner.signals == []

"""suspend_process on a scripted process table: what it stops, what it leaves alone, and how a lost stop shows."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.failpoints import Crash
from tests.sighting import PERSON, World, reason_of
from workers.actions.base import Done, Effect, NotDone
from workers.actions.suspend_process import SuspendProcess
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.target import ContainerTarget, ProcessTarget


@pytest.fixture
def world() -> World:
    return World(SuspendProcess())


def test_the_events_process_is_stopped_and_the_report_proves_it(world: World) -> None:
    miner = world.miner()
    report = world.run(world.seen(miner))
    assert (report.outcome, report.code) == (Outcome.COMPLETED, "suspend_process_success_suspended")
    assert (miner.alive, miner.facts.state, miner.signals) == (True, "T", [signal.SIGSTOP])
    assert report.effect_holds
    assert report.post_condition is not None
    assert report.post_condition.holds
    assert report.outputs["pid"] == miner.facts.pid
    assert report.outputs["identity"] == "pid_before_event"
    assert all(handle.closed for handle in world.processes.handles)


def test_one_that_somebody_else_stopped_is_looked_after_and_not_touched(world: World) -> None:
    miner = world.miner(state="T")
    job = world.seen(miner)
    report = world.run(job)
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "already_suspended")
    assert report.effect_holds, "whoever stops himself for the moment of our look must not get away unseen"
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
def test_whoever_has_the_pid_now_is_left_alone(world: World, when: str) -> None:
    miner = world.miner()
    job = world.seen(miner)
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
        world.run(world.seen(worker))
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
def test_nothing_that_the_target_can_write_about_itself_saves_it(world: World, disguise: dict[str, Any]) -> None:
    miner = world.miner()
    job = world.seen(miner)
    claim = world.bind(job)
    miner.facts = replace(miner.facts, **disguise)
    assert world.action.execute(job, claim, world.host).outcome is Outcome.COMPLETED
    disguised = world.miner(**disguise)
    assert world.run(world.seen(disguised)).outcome is Outcome.COMPLETED


def test_a_main_thread_that_is_held_in_a_call_is_no_shield_for_the_others(world: World) -> None:
    miner = world.miner()
    miner.shielded = True
    report = world.run(world.seen(miner))
    assert report.outcome is Outcome.COMPLETED
    assert signal.SIGSTOP in miner.each
    assert "1 of 2 threads are held in a call that nothing interrupts" in report.message


def test_one_that_loses_a_stop_because_it_executes_just_then_is_told_again(world: World) -> None:
    miner = world.miner()
    miner.slips = 5
    report = world.run(world.seen(miner))
    assert (report.outcome, miner.facts.state) == (Outcome.COMPLETED, "T")


@pytest.mark.parametrize(("hold", "said"), [("freeze", "frozen cgroup"), ("stick", "state D")])
def test_one_that_cannot_stop_yet_runs_nothing_before_it_does(world: World, hold: str, said: str) -> None:
    miner = world.miner()
    job = world.seen(miner)
    getattr(miner, hold)()
    claim = world.bind(job)
    assert isinstance(world.action.probe(job, claim, world.host), NotDone), "held, but no stop waits yet"
    report = world.action.execute(job, claim, world.host)
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, True)
    assert said in report.message
    assert world.action.lost(Effect(claim, report.outputs), world.host) == ""
    miner.thaw() if hold == "freeze" else miner.unstick()
    assert miner.facts.state == "T"
    assert world.action.lost(Effect(claim, report.outputs), world.host) == ""


def test_a_tracer_is_told_of(world: World) -> None:
    miner = world.miner()
    miner.traced = True
    report = world.run(world.seen(miner))
    assert report.outcome is Outcome.COMPLETED
    assert "state t" in report.message


def test_one_that_is_let_go_on_at_once_is_tried_again_and_then_a_failure(world: World) -> None:
    miner = world.miner()
    miner.guarded = True
    job = world.seen(miner)
    claim = world.bind(job)
    with pytest.raises(TransientFailure) as failure:
        world.action.execute(job, claim, world.host)
    assert failure.value.reason == "runs_on"
    assert isinstance(world.action.probe(job, claim, world.host), NotDone)


def test_one_that_ends_meanwhile_needs_no_stopping(world: World) -> None:
    miner = world.miner()
    job = world.seen(miner)
    claim = world.bind(job)
    miner.before_signal = lambda _: miner.end()
    assert reason_of(world.action.execute(job, claim, world.host)) == "target_gone"
    assert reason_of(world.action.execute(job, claim, world.host)) == "target_gone"


@pytest.mark.parametrize("place", SuspendProcess.failpoints)
def test_a_crash_after_the_signal_is_found_done(world: World, place: str) -> None:
    miner = world.miner()
    job = world.seen(miner)
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
    job = world.seen(miner)
    claim = world.bind(job)
    held = Effect(claim, world.action.execute(job, claim, world.host).outputs)
    assert world.action.lost(held, world.host) == ""
    miner.go_on()
    assert "was continued" in world.action.lost(held, world.host)
    miner.end()
    assert "has ended" in world.action.lost(held, world.host)
    world.processes.spawn(pid=miner.facts.pid, state="T")
    assert "has ended" in world.action.lost(held, world.host)


def test_without_permission_it_fails_and_says_so(world: World) -> None:
    miner = world.miner()
    miner.permitted = False
    with pytest.raises(PermanentFailure) as failure:
        world.run(world.seen(miner))
    assert failure.value.reason == "permission"
    assert all(handle.closed for handle in world.processes.handles)


@pytest.mark.parametrize(
    ("state", "said"), [("S", "would suspend process"), ("T", "is stopped already"), ("", "would do nothing: it has")]
)
def test_a_dry_run_says_what_would_stop_and_touches_nothing(world: World, state: str, said: str) -> None:
    miner = world.miner(state=state or "S")
    job = world.seen(miner)
    if not state:
        miner.end()
    report = world.action.dry_run_report(job, world.bind(job), world.host)
    assert report.outcome is Outcome.DRY_RUN
    assert said in report.message
    assert world.processes.effects == 0

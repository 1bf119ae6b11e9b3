"""resume_process, the undo of a suspension: the process that was stopped goes on, and no other is touched."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.failpoints import Crash
from tests.sighting import World, reason_of
from workers.actions.base import Done, Effect, NotDone
from workers.actions.suspend_process import ResumeProcess, SuspendProcess
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.ids import NO_EXECUTION
from workers.domain.outcome import Outcome, Report


class Undo:
    """A suspension that was done, and its undo."""

    def __init__(self) -> None:
        self.world = World(SuspendProcess())
        self.miner = self.world.miner()
        forward = self.world.seen(self.miner)
        claim = self.world.bind(forward)
        report = self.world.action.execute(forward, claim, self.world.host)
        self.world.action = ResumeProcess()
        self.job = self.world.job(forward.target, undoes=Effect(claim, report.outputs))
        self.miner.signals.clear()

    def bind(self) -> Any:
        return self.world.bind(self.job)

    def run(self, claim: Any | None = None) -> Report:
        return self.world.action.execute(self.job, claim or self.bind(), self.world.host)


def refused(undo: Undo) -> str:
    with pytest.raises(CommandRejected) as why:
        undo.bind()
    return why.value.reason


def test_it_goes_on_where_it_stood() -> None:
    undo = Undo()
    report = undo.run()
    assert (report.outcome, reason_of(report)) == (Outcome.COMPLETED, "resumed")
    assert not report.effect_holds
    assert (undo.miner.facts.state, undo.miner.signals) == ("S", [signal.SIGCONT])
    assert all(handle.closed for handle in undo.world.processes.handles)


def test_a_stop_that_still_waits_is_taken_back() -> None:
    undo = Undo()
    undo.miner.go_on()
    undo.miner.freeze()
    undo.miner.take(signal.SIGSTOP)
    assert undo.run().outcome is Outcome.COMPLETED
    undo.miner.thaw()
    assert undo.miner.facts.state == "S"


def test_one_that_goes_on_already_is_left_as_it_is() -> None:
    undo = Undo()
    undo.miner.go_on()
    report = undo.run()
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "not_suspended")
    assert undo.miner.signals == []


def test_whoever_has_its_pid_now_is_not_let_go_on() -> None:
    undo = Undo()
    claim = undo.bind()
    stranger = undo.world.processes.spawn(pid=undo.miner.facts.pid, state="T")
    assert refused(undo) == "nothing_to_revert"
    report = undo.run(claim)
    assert (report.outcome, reason_of(report)) == (Outcome.NO_ACTION, "target_gone")
    found = undo.world.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.NO_ACTION
    assert (stranger.facts.state, stranger.signals) == ("T", [])


def test_a_process_that_was_not_suspended_here_is_not_ours_to_let_go_on() -> None:
    undo = Undo()
    undo.job = undo.world.job(undo.job.target, undoes=None)
    assert refused(undo) == "nothing_to_revert"
    others = Undo()
    assert others.job.undoes is not None
    stopped_before = replace(others.job.undoes.claim, stopped_before=True)
    others.job = others.world.job(others.job.target, undoes=Effect(stopped_before, {}))
    assert refused(others) == "nothing_to_revert"
    undo.job = replace(undo.job, command=replace(undo.job.command, undo_of=NO_EXECUTION))
    assert refused(undo) == "undo_only"


def test_one_that_ends_meanwhile_stays_so() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.miner.before_signal = lambda _: undo.miner.end()
    assert reason_of(undo.run(claim)) == "target_gone"


def test_one_that_is_stopped_again_is_tried_again() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.miner.held_down = True
    with pytest.raises(TransientFailure) as failure:
        undo.run(claim)
    assert failure.value.reason == "stopped_again"
    assert isinstance(undo.world.action.probe(undo.job, claim, undo.world.host), NotDone)


@pytest.mark.parametrize("place", ResumeProcess.failpoints)
def test_a_crash_after_the_signal_is_found_done(place: str) -> None:
    undo = Undo()
    claim = undo.bind()
    assert isinstance(undo.world.action.probe(undo.job, claim, undo.world.host), NotDone)
    undo.world.failpoints.arm(place)
    with pytest.raises(Crash):
        undo.run(claim)
    found = undo.world.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.cause) == (Outcome.COMPLETED, "unproven")


def test_a_dry_run_touches_nothing() -> None:
    undo = Undo()
    assert undo.world.action.dry_run_report(undo.job, undo.bind(), undo.world.host).outcome is Outcome.DRY_RUN
    assert undo.miner.signals == []

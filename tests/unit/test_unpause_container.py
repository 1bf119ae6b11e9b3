"""unpause_container, the undo of a pause: the run that was paused goes on, and no other is touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container_bench import World, code_of
from tests.fakes.failpoints import Crash
from workers.actions.base import AnyAction, Done, Effect, Job, NotDone, Pending
from workers.actions.pause_container import PauseContainer, UnpauseContainer
from workers.domain.errors import CommandRejected, Indeterminate, TransientFailure
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.container import ContainerState
from workers.host.containers.ports import Refusal


class Undo:
    """A pause that was done, and its undo."""

    def __init__(self) -> None:
        self.world = World(PauseContainer())
        self.container = self.world.container()
        target = self.world.target(self.container)
        job, claim = self.world.bind(self.container)
        report = self.world.action.execute(job, claim, self.world.host)
        self.action: AnyAction = UnpauseContainer()
        self.world.action = self.action
        self.job: Job[Any] = self.world.job(target, undoes=Effect(claim, report.outputs))
        self.container.calls.clear()

    def bind(self) -> Any:
        self.action.admit(self.job, self.world.host)
        return self.action.bind(self.job, self.world.host)

    def run(self, claim: Any | None = None) -> Report:
        return self.action.execute(self.job, claim or self.bind(), self.world.host)


def refused(undo: Undo) -> str:
    with pytest.raises(CommandRejected) as why:
        undo.bind()
    return why.value.reason


def test_it_goes_on_where_it_stood() -> None:
    undo = Undo()
    before = undo.container.facts.started_at_ns
    report = undo.run()
    assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "unpaused")
    assert (undo.container.facts.state, undo.container.facts.started_at_ns) == (ContainerState.RUNNING, before)
    assert undo.container.calls == ["unpause"]


def test_one_that_goes_on_already_is_left_as_it_is() -> None:
    undo = Undo()
    undo.world.containers.open(undo.container.facts.ref).unpause()
    undo.container.calls.clear()
    assert undo.run().outcome is Outcome.NO_ACTION
    assert undo.container.calls == []


def test_a_later_run_was_never_paused() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.world.containers.restart(undo.container)
    assert refused(undo) == "superseded"
    assert code_of(undo.run(claim)) == "superseded"
    found = undo.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert code_of(found.report) == "superseded"
    assert undo.container.calls == []


def test_one_that_has_ended_or_was_removed_has_nothing_to_give_back() -> None:
    undo = Undo()
    undo.world.containers.end(undo.container)
    assert refused(undo) == "nothing_to_revert"
    undo.container.removed = True
    assert refused(undo) == "container_gone"


def test_a_refusal_decides_nothing_the_state_does() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.world.containers.refusals["unpause"] = [Refusal("is not paused", may_pass=True)]
    undo.world.containers.before["unpause"] = lambda: setattr(
        undo.container, "facts", undo.world.containers.running(undo.container)
    )
    assert undo.run(claim).outcome is Outcome.COMPLETED


def test_a_refusal_of_one_that_stays_paused_is_a_failure() -> None:
    undo = Undo()
    undo.world.containers.refusals["unpause"] = [Refusal("freezer", may_pass=True)]
    with pytest.raises(TransientFailure, match="freezer"):
        undo.run()


@pytest.mark.parametrize("place", UnpauseContainer.failpoints)
def test_a_crash_after_it_is_found_done(place: str) -> None:
    undo = Undo()
    claim = undo.bind()
    assert isinstance(undo.action.probe(undo.job, claim, undo.world.host), NotDone)
    undo.world.failpoints.arm(place)
    with pytest.raises(Crash):
        undo.run(claim)
    found = undo.action.probe(undo.job, claim, undo.world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED


def test_one_without_an_answer_is_looked_for() -> None:
    undo = Undo()
    claim = undo.bind()
    containers = undo.world.containers
    containers.before["unpause"] = lambda: setattr(containers, "hung", True)
    with pytest.raises(Indeterminate):
        undo.run(claim)
    assert isinstance(undo.action.probe(undo.job, claim, undo.world.host), Pending)
    containers.wake()
    assert isinstance(undo.action.probe(undo.job, claim, undo.world.host), Done)
    assert undo.container.calls == ["unpause"]

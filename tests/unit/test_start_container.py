"""start_container, the undo of a stop: what it gives back, what it leaves, and where it stops when it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container_bench import World, code_of
from tests.fakes.containers import FakeContainer
from tests.fakes.failpoints import Crash
from workers.actions.base import Begun, Done, Effect, Job, NotDone, Pending
from workers.actions.stop_container import StartContainer, StopContainer
from workers.domain.errors import CommandRejected, Indeterminate, TransientFailure
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.container import RestartPolicy
from workers.host.containers.ports import Refusal

ON_FAILURE = RestartPolicy("on-failure", 3)


class Undo:
    """A stop that was done, and its undo."""

    def __init__(self, policy: RestartPolicy = ON_FAILURE) -> None:
        self.world = World(StopContainer())
        self.container: FakeContainer = self.world.container(policy=policy)
        target = self.world.target(self.container)
        job, claim = self.world.bind(self.container)
        report = self.world.action.execute(job, claim, self.world.host)
        self.action = self.world.action = StartContainer()
        self.job: Job[Any] = self.world.job(target, undoes=Effect(claim, report.outputs))
        self.container.calls.clear()

    def bind(self) -> Any:
        self.action.admit(self.job, self.world.host)
        return self.action.bind(self.job, self.world.host)

    def run(self, claim: Any | None = None) -> Report:
        return self.action.execute(self.job, claim or self.bind(), self.world.host)

    def probe(self, claim: Any) -> object:
        return self.action.probe(self.job, claim, self.world.host)


def refused(undo: Undo) -> str:
    with pytest.raises(CommandRejected) as why:
        undo.bind()
    return why.value.reason


def test_it_runs_again_with_the_policy_that_it_had() -> None:
    undo = Undo()
    report = undo.run()
    assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "started")
    assert undo.container.calls == ["start", "restrain"]
    assert undo.container.facts.alive
    assert undo.container.facts.policy == ON_FAILURE


def test_without_a_policy_nothing_is_given_back() -> None:
    undo = Undo(RestartPolicy())
    assert undo.run().outcome is Outcome.COMPLETED
    assert undo.container.calls == ["start"]


def test_one_that_somebody_started_gets_its_policy_back() -> None:
    undo = Undo()
    undo.world.containers.restart(undo.container)
    assert undo.run().outcome is Outcome.COMPLETED
    assert undo.container.calls == ["restrain"]
    assert undo.container.facts.policy == ON_FAILURE
    assert undo.run().outcome is Outcome.NO_ACTION


def test_one_that_ran_and_ended_since_is_left_alone() -> None:
    undo = Undo()
    undo.world.containers.restart(undo.container)
    undo.world.containers.end(undo.container)
    assert refused(undo) == "superseded"


def test_one_that_ran_and_ended_between_claim_and_act_is_left_alone() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.world.containers.restart(undo.container)
    undo.world.containers.end(undo.container)
    assert code_of(undo.run(claim)) == "superseded"
    assert undo.container.calls == []


def test_one_that_was_removed_cannot_be_started() -> None:
    undo = Undo()
    claim = undo.bind()
    undo.container.removed = True
    assert code_of(undo.run(claim)) == "container_gone"
    found = undo.probe(claim)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.FAILED
    assert refused(undo) == "container_gone"


def test_without_a_stop_in_the_journal_there_is_nothing_to_start() -> None:
    undo = Undo()
    undo.job = undo.world.job(undo.world.target(undo.container), undoes=None)
    assert refused(undo) == "nothing_to_revert"


def test_one_that_cannot_be_started_stays_contained() -> None:
    undo = Undo()
    undo.world.containers.refusals["start"] = [Refusal("no such file", may_pass=True)]
    with pytest.raises(TransientFailure, match="no such file"):
        undo.run()
    assert not undo.container.facts.policy.restarts
    assert isinstance(undo.probe(undo.bind()), NotDone)


def test_a_start_without_an_answer_is_looked_for() -> None:
    undo = Undo()
    claim = undo.bind()
    containers = undo.world.containers
    containers.before["start"] = lambda: setattr(containers, "hung", True)
    with pytest.raises(Indeterminate):
        undo.run(claim)
    assert isinstance(undo.probe(claim), Pending)
    containers.wake()
    assert isinstance(undo.probe(claim), Begun)
    assert undo.run(claim).outcome is Outcome.COMPLETED
    assert undo.container.calls == ["start", "restrain"]


@pytest.mark.parametrize("place", StartContainer.failpoints)
def test_a_crash_at_any_step_ends_in_one_start_with_the_policy(place: str) -> None:
    undo = Undo()
    claim = undo.bind()
    undo.world.failpoints.arm(place)
    with pytest.raises(Crash):
        undo.run(claim)
    found = undo.probe(claim)
    report = found.report if isinstance(found, Done) else undo.run(claim)
    assert report.outcome is Outcome.COMPLETED
    assert undo.container.facts.policy == ON_FAILURE
    assert undo.container.calls.count("start") == 1


def test_one_that_started_and_ended_by_itself_was_started() -> None:
    undo = Undo(RestartPolicy())
    claim = undo.bind()
    undo.world.failpoints.arm("start_container.started")
    with pytest.raises(Crash):
        undo.run(claim)
    undo.world.containers.end(undo.container)
    found = undo.probe(claim)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.COMPLETED
    assert "ended again by itself" in found.report.message

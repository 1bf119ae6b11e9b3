"""pause_container on scripted runtimes: what it freezes, what it leaves, and how a lost pause shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.container_bench import World, code_of, effect_of
from tests.fakes.failpoints import Crash
from workers.actions.base import Done, NotDone, Pending
from workers.actions.pause_container import PauseContainer
from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.targets.container import ContainerState
from workers.host.containers.ports import Refusal


@pytest.fixture
def world() -> World:
    return World(PauseContainer())


def test_it_is_frozen_and_the_report_proves_it(world: World) -> None:
    container = world.container()
    report = world.run(container)
    assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "paused")
    assert report.effect_holds
    assert container.facts.state is ContainerState.PAUSED
    assert container.calls == ["pause"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ContainerState.PAUSED, "already_paused"),
        (ContainerState.ENDED, "not_running"),
        (ContainerState.CREATED, "not_running"),
    ],
)
def test_what_is_so_already_is_left_as_it_is(world: World, state: ContainerState, reason: str) -> None:
    container = world.container(state=state)
    report = world.run(container)
    assert (report.outcome, code_of(report), report.effect_holds) == (Outcome.NO_ACTION, reason, False)
    assert container.calls == []
    found = world.action.probe(*world.bind(container), world.host)
    assert isinstance(found, Done)
    assert found.report.outcome is Outcome.NO_ACTION


def test_another_run_is_not_touched(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    world.containers.restart(container)
    assert code_of(world.action.execute(job, claim, world.host)) == "superseded"
    assert container.calls == []


def test_a_run_that_was_put_in_its_stead_just_then_is_reported(world: World) -> None:
    container = world.container()
    world.containers.before["pause"] = lambda: world.containers.restart(container)
    assert code_of(world.run(container)) == "superseded"


def test_one_between_two_runs_is_tried_again(world: World) -> None:
    container = world.container(state=ContainerState.RESTARTING)
    with pytest.raises(TransientFailure):
        world.run(container)


def test_a_refusal_of_one_that_runs_on_is_a_failure(world: World) -> None:
    container = world.container()
    world.containers.refusals["pause"] = [Refusal("cgroup v1 without freezer", may_pass=False)]
    with pytest.raises(PermanentFailure, match="freezer"):
        world.run(container)


def test_a_refusal_of_one_that_is_paused_now_is_none(world: World) -> None:
    container = world.container()
    world.containers.before["pause"] = lambda: setattr(
        container, "facts", replace(container.facts, state=ContainerState.PAUSED)
    )
    world.containers.refusals["pause"] = [Refusal("already paused", may_pass=True)]
    assert world.run(container).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("place", PauseContainer.failpoints)
def test_a_crash_after_the_pause_is_found_done(world: World, place: str) -> None:
    container = world.container()
    world.failpoints.arm(place)
    job, claim = world.bind(container)
    assert isinstance(world.action.probe(job, claim, world.host), NotDone)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    found = world.action.probe(job, claim, world.host)
    assert isinstance(found, Done)
    assert (found.report.outcome, found.report.effect_holds) == (Outcome.COMPLETED, True)


def test_a_pause_without_an_answer_is_looked_for(world: World) -> None:
    container = world.container()
    job, claim = world.bind(container)
    world.containers.before["pause"] = lambda: setattr(world.containers, "hung", True)
    with pytest.raises(Indeterminate):
        world.action.execute(job, claim, world.host)
    assert isinstance(world.action.probe(job, claim, world.host), Pending)
    world.containers.hung, world.containers.unsettled = False, True
    assert isinstance(world.action.probe(job, claim, world.host), Pending)
    world.containers.wake()
    assert isinstance(world.action.probe(job, claim, world.host), Done)
    assert container.calls == ["pause"]


def test_a_lost_pause_is_noticed(world: World) -> None:
    container = world.container()
    held = effect_of(world.run(container))
    assert world.action.lost(held, world.host) == ""
    world.containers.open(container.facts.ref).unpause()
    assert world.action.lost(held, world.host) == "it is running"
    world.containers.restart(container)
    assert "started again" in world.action.lost(held, world.host)
    container.removed = True
    assert "removed" in world.action.lost(held, world.host)

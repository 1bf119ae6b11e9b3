"""stop_container on scripted runtimes: its grace, what it keeps for the undo, and when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.container_bench import SECOND, World, code_of, effect_of
from tests.fakes.failpoints import Crash
from workers.actions.base import Done
from workers.actions.stop_container import StopContainer
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome
from workers.domain.targets.container import ContainerState, RestartPolicy

ALWAYS = RestartPolicy("always")


@pytest.fixture
def world() -> World:
    return World(StopContainer())


def test_it_is_asked_to_end_stays_ended_and_can_be_given_back(world: World) -> None:
    container = world.container(policy=RestartPolicy("on-failure", 3))
    report = world.run(container)
    assert container.calls == ["restrain", "stop"]
    assert (report.outcome, code_of(report)) == (Outcome.COMPLETED, "stopped")
    assert report.effect_holds
    assert (report.outputs["restart_policy"], report.outputs["restart_maximum"]) == ("on-failure", 3)
    assert not container.facts.policy.restarts


def test_under_kubernetes_no_undo_is_offered_and_the_reason_is_reported(world: World) -> None:
    report = world.run(world.container(labels={"io.kubernetes.pod.uid": "u"}))
    assert report.outcome is Outcome.COMPLETED
    assert not report.effect_holds
    assert "no undo is offered" in report.message
    assert "kubelet" in report.message


def test_where_its_runtime_starts_nothing_twice_no_undo_is_offered(world: World) -> None:
    report = world.run(world.container(starts_again=False))  # CRI without a kubelet
    assert report.outcome is Outcome.COMPLETED
    assert not report.effect_holds
    assert "cannot start it again" in report.message


def test_one_that_only_the_kernel_knows_waits_for_its_runtime_or_is_refused_where_there_is_none(world: World) -> None:
    away = world.container(unserved="docker.sock does not answer", unheard=True)
    with pytest.raises(TransientFailure, match="does not answer"):
        world.bind(away)
    nobodys = world.container(unserved="no runtime that is to be believed has it", owner=1000)
    with pytest.raises(CommandRejected) as refused:
        world.bind(nobodys)
    assert refused.value.reason == "runtime_unknown"
    assert "kill_container" in refused.value.message
    assert world.containers.effects == 0


def test_under_compose_it_can_be_given_back(world: World) -> None:
    assert world.run(world.container(labels={"com.docker.compose.project": "shop"})).effect_holds


@pytest.mark.parametrize(("wanted", "timeout_s", "grace_s"), [(10, 60, 10), (0, 60, 0), (600, 60, 55), (10, 3, 0)])
def test_the_grace_is_what_was_asked_for_within_the_time_there_is(
    world: World, wanted: int, timeout_s: int, grace_s: int
) -> None:
    job, claim = world.bind(world.container(), grace_s=wanted)
    job = replace(job, deadline_ns=world.clock.now_ns() + timeout_s * SECOND)
    assert world.action.execute(job, claim, world.host).outcome is Outcome.COMPLETED
    assert world.containers.graces == [grace_s]


@pytest.mark.parametrize("state", [ContainerState.PAUSED, ContainerState.RESTARTING])
def test_what_can_take_no_signal_is_killed_without_a_vain_grace(world: World, state: ContainerState) -> None:
    container = world.container(state=state)
    assert world.run(container).outcome is Outcome.COMPLETED
    assert container.calls == ["kill"]


def test_a_stop_that_changed_nothing_can_not_be_undone(world: World) -> None:
    report = world.run(world.container(state=ContainerState.ENDED, pid=0))
    assert (report.outcome, report.effect_holds) == (Outcome.NO_ACTION, False)


def test_one_that_is_removed_at_its_end_can_not_be_given_back(world: World) -> None:
    container = world.container()
    container.auto_remove = True
    report = world.run(container)
    assert (report.outcome, report.effect_holds) == (Outcome.COMPLETED, False)


def test_each_change_to_a_stopped_container_is_reported_by_its_own_name(world: World) -> None:
    container = world.container(policy=ALWAYS)
    effect, stopped = effect_of(world.run(container)), container.facts

    def looks() -> tuple[str, str]:
        return world.action.lost(effect, world.host), world.action.weakened(effect, world.host)

    assert looks() == ("", "")
    container.facts = replace(stopped, policy=RestartPolicy("unless-stopped"))
    lost, weak = looks()
    assert (lost, "'unless-stopped'" in weak) == ("", True)
    container.facts = stopped
    world.containers.restart(container)
    lost, _ = looks()
    assert "started again" in lost
    assert "'always' was not given back" in lost
    assert "ended since" not in lost
    world.containers.end(container)
    assert "ended since" in looks()[0], "what an undo must not start again"
    container.facts = replace(stopped, state=ContainerState.RUNNING)
    assert "goes on" in looks()[0], "of a stop that was given up"
    world.containers.table.remove(container)
    assert looks()[0] == "the container was removed"
    world.containers.down = True
    with pytest.raises(TransientFailure):
        looks()


def test_a_restart_policy_that_could_not_be_taken_away_is_no_news(world: World) -> None:
    world.containers.has_update = False  # Podman before 5
    effect = effect_of(world.run(world.container(policy=ALWAYS)))
    assert world.action.weakened(effect, world.host) == ""


@pytest.mark.parametrize("place", StopContainer.failpoints)
def test_a_crash_at_any_step_leaves_what_the_undo_needs(world: World, place: str) -> None:
    container = world.container(policy=ALWAYS)
    world.failpoints.arm(place)
    job, claim = world.bind(container)
    with pytest.raises(Crash):
        world.action.execute(job, claim, world.host)
    found = world.action.probe(job, claim, world.host)
    report = found.report if isinstance(found, Done) else world.action.execute(job, claim, world.host)
    assert report.outcome is Outcome.COMPLETED
    assert report.effect_holds
    assert report.outputs["restart_policy"] == "always"
    assert report.outputs["restart_disabled"] is True
    assert container.calls.count("stop") == 1

"""What every ``Containers`` does: the scripted runtimes that unit tests use, a real dockerd, a real Podman service, a
real containerd behind its CRI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.containerd.rig import ContainerdRig
from tests.engines import DEAF, PATIENT, EngineRig, until
from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers
from tests.runtimes import cri, engines
from workers.actions.base import container_end
from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, RestartPolicy
from workers.host.containers.ports import Containers
from workers.system.clock import SystemClock

pytestmark = pytest.mark.slow


class Stage(Protocol):
    """Where containers are made."""

    has_update: bool
    has_policy: bool
    """Whether containers have a restart policy."""
    has_start: bool
    """Whether one that has ended can be started again."""
    has_auto_remove: bool
    kills_the_dead: bool
    """Whether a kill of one that has ended is no fault."""

    @property
    def containers(self) -> Containers: ...
    def run(self, *, policy: str = "", name: str = "", auto_remove: bool = False, deaf: bool = True) -> str: ...
    def remove(self, container_id: str) -> None: ...
    def deaf(self) -> Containers: ...


class FakeStage:
    has_update = has_policy = has_start = has_auto_remove = True
    kills_the_dead = False

    def __init__(self) -> None:
        self.containers = FakeContainers(FakeClock())
        self._made: dict[str, FakeContainer] = {}

    def run(self, *, policy: str = "", name: str = "", auto_remove: bool = False, deaf: bool = True) -> str:
        del deaf
        made = self.containers.spawn(name=name or "web", policy=RestartPolicy(policy or "no"))
        made.auto_remove = auto_remove
        self._made[made.facts.ref.id] = made
        return made.facts.ref.id

    def remove(self, container_id: str) -> None:
        self._made[container_id].removed = True

    def deaf(self) -> Containers:
        return FakeContainers(FakeClock(), down=True)


class RealStage:
    has_policy = has_start = has_auto_remove = True
    kills_the_dead = False

    def __init__(self, rig: EngineRig) -> None:
        self.rig = rig
        self.has_update = rig.has_update
        self.containers = engines(rig.socket)

    def run(self, *, policy: str = "", name: str = "", auto_remove: bool = False, deaf: bool = True) -> str:
        command = DEAF if deaf else PATIENT
        return self.rig.run(policy=policy, name=name or None, auto_remove=auto_remove, command=command)

    def remove(self, container_id: str) -> None:
        self.rig.remove(container_id)

    def deaf(self) -> Containers:
        return engines(self.rig.directory / "none.sock")


class CriStage:
    has_update = has_policy = has_start = has_auto_remove = False
    kills_the_dead = True

    def __init__(self, rig: ContainerdRig) -> None:
        self.rig = rig
        self.containers = cri(rig.socket)

    def run(self, *, policy: str = "", name: str = "", auto_remove: bool = False, deaf: bool = True) -> str:
        return self.rig.run(name=name or "web", command=DEAF if deaf else PATIENT)

    def remove(self, container_id: str) -> None:
        self.rig.remove(container_id)

    def deaf(self) -> Containers:
        return cri(self.rig.directory / "none.sock")


@pytest.fixture(params=["fake", "docker", "podman", "containerd"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    if request.param == "containerd":
        containerd = request.getfixturevalue("containerd")
        yield CriStage(containerd)
        containerd.clear()
        return
    rig = request.getfixturevalue(f"{request.param}_engine")
    yield RealStage(rig)
    rig.clear()


def facts_of(stage: Stage, container_id: str) -> ContainerFacts:
    (facts,) = stage.containers.find(container_id)
    return facts


def after(stage: Stage, facts: ContainerFacts) -> ContainerFacts:
    found = stage.containers.open(facts.ref).inspect()
    assert found is not None
    return found


def await_end(stage: Stage, facts: ContainerFacts, *, timeout_s: float) -> ContainerFacts | None:
    container, started_at_ns = stage.containers.open(facts.ref), facts.started_at_ns
    return container_end.await_end(container, SystemClock(), started_at_ns=started_at_ns, timeout_s=timeout_s)


def test_a_running_container_is_found_by_its_id_and_by_twelve_digits_of_it(stage: Stage) -> None:
    container_id = stage.run(policy="always")
    facts = facts_of(stage, container_id)
    assert facts == facts_of(stage, container_id[:12])
    assert facts.ref.id == container_id
    assert (facts.state, facts.alive) == (ContainerState.RUNNING, True)
    assert facts.policy.name == ("always" if stage.has_policy else "no")
    assert facts.starts_again == stage.has_start
    assert facts.pid > 0
    assert facts.started_at_ns > 0
    assert after(stage, facts) == facts


def test_what_no_runtime_has_is_not_found(stage: Stage) -> None:
    container_id = stage.run()
    other = "f" * 64 if container_id[0] != "f" else "0" * 64
    assert list(stage.containers.find(other)) == []
    assert list(stage.containers.find(other[:12])) == []
    assert stage.containers.open(ContainerRef(facts_of(stage, container_id).ref.runtime, other)).inspect() is None


def test_a_name_is_never_an_id(stage: Stage) -> None:
    stage.run(name="deadbeef0123")
    stage.run(name="f" * 64)
    assert list(stage.containers.find("deadbeef0123")) == []
    assert list(stage.containers.find("f" * 64)) == []


def test_a_container_named_like_the_id_of_another_does_not_hide_it(stage: Stage) -> None:
    container_id = stage.run()
    decoy = stage.run(name=container_id[:12])
    assert [facts.ref.id for facts in stage.containers.find(container_id[:12])] == [container_id]
    assert decoy != container_id


def test_a_killed_container_has_ended_and_keeps_its_run(stage: Stage) -> None:
    facts = facts_of(stage, stage.run())
    assert stage.containers.open(facts.ref).kill() is None
    ended = await_end(stage, facts, timeout_s=60)
    assert ended is not None
    assert (ended.state, ended.alive, ended.pid) == (ContainerState.ENDED, False, 0)
    assert ended.started_at_ns == facts.started_at_ns
    refused = stage.containers.open(facts.ref).kill()
    assert (refused is None) == stage.kills_the_dead
    assert after(stage, facts) == ended


def test_a_container_that_is_removed_at_its_end_is_gone(stage: Stage) -> None:
    facts = facts_of(stage, stage.run(auto_remove=True))
    assert stage.containers.open(facts.ref).kill() is None

    def is_removed() -> bool:  # a moment after the end
        ended = await_end(stage, facts, timeout_s=60)
        assert ended is None or not ended.alive
        if ended is not None and not stage.has_auto_remove:
            stage.remove(facts.ref.id)
        return ended is None

    until(is_removed)
    assert stage.containers.open(facts.ref).inspect() is None
    assert stage.containers.open(facts.ref).kill() is not None


def test_a_stopped_container_starts_into_another_run(stage: Stage) -> None:
    facts = facts_of(stage, stage.run(deaf=False))
    assert stage.containers.open(facts.ref).stop(grace_s=30) is None
    assert not after(stage, facts).alive
    assert stage.containers.open(facts.ref).stop(grace_s=1) is None
    refused = stage.containers.open(facts.ref).start()
    assert (refused is None) == stage.has_start
    again = after(stage, facts)
    assert again.alive == stage.has_start
    if refused is not None:
        assert not refused.may_pass
        return
    assert again.started_at_ns > facts.started_at_ns
    assert stage.containers.open(facts.ref).start() is None
    assert after(stage, facts) == again


def test_a_paused_container_is_paused_until_it_is_not(stage: Stage) -> None:
    facts = facts_of(stage, stage.run())
    assert stage.containers.open(facts.ref).unpause() is not None
    assert stage.containers.open(facts.ref).pause() is None
    paused = after(stage, facts)
    assert paused == replace(facts, state=ContainerState.PAUSED)
    assert stage.containers.open(facts.ref).pause() is not None
    assert stage.containers.open(facts.ref).unpause() is None
    assert after(stage, facts) == facts
    assert stage.containers.open(facts.ref).unpause() is not None
    assert after(stage, facts) == facts


def test_a_paused_container_can_be_killed(stage: Stage) -> None:
    facts = facts_of(stage, stage.run())
    assert stage.containers.open(facts.ref).pause() is None
    assert stage.containers.open(facts.ref).kill() is None
    ended = await_end(stage, facts, timeout_s=60)
    assert ended is not None
    assert not ended.alive


def test_a_restart_policy_is_changed_where_the_runtime_can(stage: Stage) -> None:
    facts = facts_of(stage, stage.run(policy="always"))
    refused = stage.containers.open(facts.ref).restrain(RestartPolicy())
    assert (refused is None) == stage.has_update
    assert after(stage, facts).policy.restarts == (stage.has_policy and not stage.has_update)
    if stage.has_update:
        wanted = RestartPolicy("on-failure", 3)
        assert stage.containers.open(facts.ref).restrain(wanted) is None
        assert after(stage, facts).policy == wanted
    assert after(stage, facts).started_at_ns == facts.started_at_ns


def test_waiting_for_an_end_that_does_not_come_returns_the_present_facts(stage: Stage) -> None:
    facts = facts_of(stage, stage.run())
    assert await_end(stage, facts, timeout_s=0.05) == facts


def test_where_no_process_listens_a_search_fails_for_now(stage: Stage) -> None:
    with pytest.raises(TransientFailure):
        stage.deaf().find("0" * 12)


def test_we_do_not_run_in_one_of_them(stage: Stage) -> None:
    container_id = stage.run()
    assert container_id not in stage.containers.own_ids()
    assert Path(facts_of(stage, container_id).ref.runtime).name.endswith(".sock")
    assert all(runtime.usable for runtime in stage.containers.runtimes())

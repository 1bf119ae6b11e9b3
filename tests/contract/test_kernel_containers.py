"""Containers as the kernel alone knows them, in real cgroups of both versions: which processes are in one, which only
claim an id, and that no others are ever touched. Users' cgroups are real ones of other uids."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.cgroups import Cgroups, cgroups
from tests.containerd.rig import ContainerdRig
from tests.engines import DockerRig, until
from tests.victims import Victims, victims
from workers.actions.base.container import claim_on_run
from workers.actions.base.container_end import await_end
from workers.domain.targets.container import ContainerFacts, ContainerState
from workers.host.containers.kernel import KernelContainers
from workers.system.clock import SystemClock

pytestmark = [pytest.mark.slow]

ID, OTHER = "c0ffee" * 10 + "0001", "c0ffee" * 10 + "0002"
ALICE, BOB = 61_001, 61_002
NAMES = [ID, f"docker-{ID}.scope", f"cri-containerd-{ID}.scope", f"libpod-{ID}.scope", f"crio-{ID}"]
FORKS = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
while True:
    if os.fork():
        os._exit(0)
"""


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@pytest.fixture(params=["freezer", "unified"])
def groups(request: pytest.FixtureRequest, started: Victims) -> Iterator[Cgroups]:
    del started  # reaped after the cgroups are gone
    with cgroups(request.param) as made:
        yield made


@pytest.fixture
def containers() -> KernelContainers:
    return KernelContainers(clock=SystemClock())


def the_one(containers: KernelContainers, prefix: str = ID) -> ContainerFacts:
    (facts,) = containers.find(prefix)
    return facts


def users(started: Victims, uid: int) -> int:
    return started.spawn(user=uid, group=uid, extra_groups=[])


# --- what is in one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_container_is_known_by_its_cgroups_name_and_killed_with_all_that_is_in_it(
    containers: KernelContainers, groups: Cgroups, started: Victims, name: str
) -> None:
    init, child, bystander = started.spawn(), started.spawn(), started.spawn()
    at = groups.make(f"pods/{name}")
    groups.put(at, init)
    groups.put(groups.make(f"pods/{name}/inner"), child)
    groups.put(groups.make("pods"), bystander)
    facts = the_one(containers, ID[:12])
    assert (facts.ref.id, facts.pid, facts.owner, facts.state) == (ID, init, 0, ContainerState.RUNNING)
    assert containers.open(facts.ref).inspect() == facts
    assert containers.open(facts.ref).kill() is None
    container = containers.open(facts.ref)
    assert await_end(container, SystemClock(), started_at_ns=facts.started_at_ns, timeout_s=10) is None
    assert started.dead_within(init, 10)
    assert started.dead_within(child, 10)
    assert started.alive(bystander)
    assert containers.open(facts.ref).kill() is not None
    assert list(containers.find(ID)) == []


def test_it_stands_still_until_it_is_thawed_and_a_kill_does_not_wait_for_that(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    pid = started.spawn()
    groups.put(groups.make(f"docker/{ID}"), pid)
    facts = the_one(containers)
    assert containers.open(facts.ref).unpause() is not None
    assert containers.open(facts.ref).pause() is None
    paused = containers.open(facts.ref).inspect()
    assert paused is not None
    assert paused.state is ContainerState.PAUSED
    assert containers.open(facts.ref).pause() is not None
    assert containers.open(facts.ref).unpause() is None
    assert containers.open(facts.ref).inspect() == facts
    assert containers.open(facts.ref).pause() is None
    assert containers.open(facts.ref).kill() is None
    assert started.dead_within(pid, 10)


def test_what_forks_without_end_is_killed(containers: KernelContainers, groups: Cgroups, started: Victims) -> None:
    forker = started.python(FORKS)
    at = groups.make(f"docker/{ID}")
    groups.put(at, forker, started.spawn())
    facts = the_one(containers)
    started.tell(forker)
    assert started.dead_within(forker, 10), "its first parent has ended"
    assert containers.open(facts.ref).kill() is None
    assert (at / "cgroup.procs").read_text() == ""


def test_a_monitor_is_no_part_of_its_container(containers: KernelContainers, groups: Cgroups, started: Victims) -> None:
    monitor = started.spawn()
    groups.put(groups.make(f"machine.slice/libpod-conmon-{ID}.scope"), monitor)
    assert list(containers.find(ID)) == []


def test_a_new_run_of_it_is_not_touched(containers: KernelContainers, groups: Cgroups, started: Victims) -> None:
    first, second = started.spawn(), started.spawn()
    at = groups.make(f"docker/{ID}")
    groups.put(at, first)
    facts = the_one(containers)
    started.end(first)
    at.rmdir()
    groups.put(groups.make(f"docker/{ID}"), second)
    now = containers.open(facts.ref).inspect()
    assert now is not None
    assert not claim_on_run(facts).is_run_of(now)
    container = containers.open(facts.ref)
    for call in (container.kill, container.pause, container.unpause):
        assert call() is not None
    assert started.alive(second)
    assert the_one(containers).state is ContainerState.RUNNING


def test_when_its_oldest_process_ends_the_run_goes_on(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    first, second = started.spawn(), started.spawn()
    groups.put(groups.make(f"docker/{ID}"), first, second)
    facts = the_one(containers)
    started.end(first)
    now = containers.open(facts.ref).inspect()
    assert now is not None
    assert claim_on_run(facts).is_run_of(now)
    assert containers.open(facts.ref).kill() is None
    assert started.dead_within(second, 10)


def test_this_worker_is_never_in_what_is_killed(groups: Cgroups, started: Victims) -> None:
    own = started.spawn()
    containers = KernelContainers(clock=SystemClock(), own_line=lambda: (own,))
    groups.put(groups.make(f"docker/{ID}"), own, started.spawn())
    refused = containers.open(the_one(containers).ref).kill()
    assert refused is not None
    assert "this worker" in refused.message
    assert started.alive(own)


def test_only_its_runtime_can_do_the_rest(containers: KernelContainers, groups: Cgroups, started: Victims) -> None:
    groups.put(groups.make(f"docker/{ID}"), started.spawn())
    facts = the_one(containers)
    refusals = [containers.open(facts.ref).stop(grace_s=0), containers.open(facts.ref).start()]
    refusals.append(containers.open(facts.ref).restrain(facts.policy))
    assert all(refused is not None and not refused.may_pass for refused in refusals)
    assert list(containers.runtimes()) == []


# --- claims of an id -------------------------------------------------------------------------------------------------


def test_a_users_copy_of_an_id_neither_hides_the_systems_container_nor_is_killed_with_it(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    real, copy, near = started.spawn(), users(started, ALICE), users(started, BOB)
    groups.put(groups.make(f"docker/{ID}"), real)
    groups.put(groups.make(f"bob/{OTHER}", BOB, BOB), near)
    groups.put(groups.make(f"alice/docker-{ID}.scope", ALICE, ALICE), copy)
    facts = the_one(containers, ID[:12])
    assert (facts.ref.id, facts.pid, facts.owner) == (ID, real, 0)
    assert containers.open(facts.ref).kill() is None
    assert started.dead_within(real, 10)
    assert started.alive(copy)
    assert started.alive(near)
    assert containers.open(facts.ref).inspect() is None, "the copy does not make the dead one a new run"


def test_a_users_own_container_is_found_and_no_other_users_copy_makes_it_ambiguous(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    of_alice, of_bob, bystander = users(started, ALICE), users(started, BOB), users(started, ALICE)
    groups.put(groups.make(f"alice/libpod-{ID}.scope", ALICE, ALICE), of_alice)
    groups.put(groups.make(f"bob/libpod-{ID}.scope", BOB, BOB), of_bob)
    groups.put(groups.make("alice/terminal", ALICE, ALICE), bystander)
    facts = the_one(containers)
    assert facts.owner != 0
    assert containers.open(facts.ref).kill() is None
    assert started.dead_within(of_alice, 10)
    assert started.dead_within(of_bob, 10), "a cgroup that another user gave the same id is meant too"
    assert started.alive(bystander)


def test_moving_processes_to_another_cgroup_of_that_id_saves_nothing(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    pid = users(started, ALICE)
    first = groups.make(f"alice/libpod-{ID}.scope", ALICE, ALICE)
    groups.put(first, pid)
    facts = the_one(containers)
    groups.put(groups.make(f"alice/again/libpod-{ID}.scope", ALICE, ALICE, ALICE), pid)
    first.rmdir()
    now = containers.open(facts.ref).inspect()
    assert now is not None
    assert claim_on_run(facts).is_run_of(now)
    assert containers.open(facts.ref).kill() is None
    assert started.dead_within(pid, 10)


def test_an_id_inside_of_a_container_is_that_containers_own_affair(
    containers: KernelContainers, groups: Cgroups, started: Victims
) -> None:
    outer, inner, real = started.spawn(), started.spawn(), started.spawn()
    groups.put(groups.make(f"docker/{OTHER}"), outer)
    groups.put(groups.make(f"docker/{OTHER}/docker-{ID}.scope"), inner)  # root in a container with its cgroups in hand
    groups.put(groups.make(f"docker/{ID}"), real)
    facts = the_one(containers)
    assert facts.pid == real
    assert containers.open(facts.ref).kill() is None
    assert started.alive(inner)
    inside = the_one(containers)  # no other has it now: a container in a container
    assert (inside.pid, inside.owner != 0) == (inner, True)
    assert containers.open(inside.ref).kill() is None
    assert started.dead_within(inner, 10)
    assert started.alive(outer)
    groups.put(groups.make(f"docker/{OTHER}/docker-{ID}.scope"), started.spawn())
    assert containers.open(the_one(containers, OTHER).ref).kill() is None, "and all of it belongs to the outer one"
    assert list(containers.find(ID)) == []


def test_a_user_cannot_move_another_users_process_into_an_own_cgroup(groups: Cgroups, started: Victims) -> None:
    """What all of this rests on: the kernel's own rule."""
    victim, own = started.spawn(), users(started, ALICE)
    at = groups.make(f"alice/libpod-{ID}.scope", ALICE, ALICE)
    groups.put(groups.make("alice", ALICE), own)
    tries = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())"
    for pid, works in ((own, True), (victim, False)):
        command = ["/usr/bin/python3", "-c", tries, str(at / "cgroup.procs"), str(pid)]
        done = subprocess.run(command, check=False, capture_output=True, user=ALICE, group=ALICE, extra_groups=[])
        assert (done.returncode == 0) == works, done.stderr


# --- real runtimes' cgroups ------------------------------------------------------------------------------------------


def test_dockers_and_containerds_containers_are_known_without_them(
    containers: KernelContainers, docker_engine: DockerRig, containerd: ContainerdRig
) -> None:
    for rig in (docker_engine, containerd):
        container_id = rig.run()
        try:
            facts = the_one(containers, container_id[:12])
            assert (facts.ref.id, facts.pid, facts.owner) == (container_id, rig.pid(container_id), 0)
            assert containers.open(facts.ref).pause() is None
            paused = containers.open(facts.ref).inspect()
            assert paused is not None
            assert paused.state is ContainerState.PAUSED
            assert containers.open(facts.ref).kill() is None
            until(lambda rig=rig, each=container_id: rig.state(each) == "exited")  # type: ignore[misc]
            assert containers.open(facts.ref).inspect() is None
        finally:
            rig.clear()

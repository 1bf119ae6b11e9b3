"""What every ``Processes`` does: the scripted table that unit tests use, and the real kernel."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcess, FakeProcesses
from tests.victims import Freezer, Victims, await_state, in_a_child, wait_until
from workers.domain.targets.halting import Halt, ThreadFacts, all_stopped, halt_of, none_stopped
from workers.domain.targets.process import ProcessFacts
from workers.host.processes import pidfd, tasks
from workers.host.processes.ports import Processes, ProcessHandle
from workers.host.processes.system import SystemProcesses

_EXECUTES_ON_REQUEST = (
    "import os, sys; print(flush=True); sys.stdin.readline(); os.execv('/bin/sleep', ['sleep', '1000'])"
)

_FAMILY = "sh -c 'sleep 1000 & echo $$ $!; wait' & wait"
"""A parent; its child prints its own pid and its child's."""


def _exe(pid: int) -> str:
    return str(Path(f"/proc/{pid}/exe").readlink())


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Stage(Protocol):
    """Where processes are made to do things."""

    @property
    def processes(self) -> Processes: ...
    def spawn(self) -> int: ...
    def end(self, pid: int) -> None: ...
    def zombie(self, pid: int) -> None: ...
    def reuse(self, pid: int) -> None: ...
    def spawn_executing(self) -> int: ...
    def execute(self, pid: int) -> None: ...
    def freeze(self, pid: int) -> None: ...
    def thaw(self, pid: int) -> None: ...
    def spawn_family(self) -> tuple[int, int, int]: ...
    def close(self) -> None: ...


class FakeStage:
    def __init__(self) -> None:
        self.processes = FakeProcesses(FakeClock())
        self._made: dict[int, FakeProcess] = {}

    def spawn(self) -> int:
        made = self.processes.spawn()
        self._made[made.facts.pid] = made
        return made.facts.pid

    def end(self, pid: int) -> None:
        self._made[pid].end()

    def zombie(self, pid: int) -> None:
        self._made[pid].end()

    def reuse(self, pid: int) -> None:
        self._made[pid] = self.processes.spawn(pid=pid)

    def spawn_executing(self) -> int:
        return self.spawn()

    def execute(self, pid: int) -> None:
        self._made[pid].exec("/bin/sleep")

    def freeze(self, pid: int) -> None:
        self._made[pid].freeze()

    def thaw(self, pid: int) -> None:
        self._made[pid].thaw()

    def spawn_family(self) -> tuple[int, int, int]:
        parent = self.spawn()
        child = self.processes.spawn(parent_pid=parent)
        grandchild = self.processes.spawn(parent_pid=child.facts.pid)
        return parent, child.facts.pid, grandchild.facts.pid

    def close(self) -> None:
        return None


class RealStage:
    def __init__(self) -> None:
        self.processes = SystemProcesses()
        self._victims = Victims()
        self._freezer: Freezer | None = None
        self._families: list[int] = []

    def spawn(self) -> int:
        return self._victims.spawn()

    def end(self, pid: int) -> None:
        self._victims.end(pid)

    def zombie(self, pid: int) -> None:
        self._victims.kill_unreaped(pid)

    def reuse(self, pid: int) -> None:
        assert self._victims.reuse(pid) == pid

    def spawn_executing(self) -> int:
        return self._victims.python(_EXECUTES_ON_REQUEST)

    def execute(self, pid: int) -> None:
        before = _exe(pid)
        self._victims.tell(pid)
        wait_until(lambda: _exe(pid) != before)

    def freeze(self, pid: int) -> None:
        self._freezer = Freezer()
        self._freezer.freeze(pid)

    def thaw(self, pid: int) -> None:
        assert self._freezer is not None
        self._freezer.thaw()

    def spawn_family(self) -> tuple[int, int, int]:
        pid = self._victims.spawn(["sh", "-c", _FAMILY], stdout=subprocess.PIPE, start_new_session=True)
        self._families.append(pid)
        child, grandchild = self._victims.read_line(pid).split()
        return pid, int(child), int(grandchild)

    def close(self) -> None:
        for family in self._families:
            os.killpg(family, signal.SIGKILL)
        if self._freezer is not None:
            self._freezer.thaw()
        self._victims.close()
        if self._freezer is not None:
            self._freezer.close()


@pytest.fixture(params=["fake", "real"])
def stage(request: pytest.FixtureRequest, require: Callable[..., None]) -> Iterator[Stage]:
    if request.param == "real":
        require("linux", "pidfd and /proc are Linux's")
    made: Stage = FakeStage() if request.param == "fake" else RealStage()
    yield made
    made.close()


def _open(stage: Stage, pid: int) -> ProcessHandle:
    handle = stage.processes.open(pid)
    assert handle is not None
    return handle


def _identity(facts: ProcessFacts) -> tuple[str, int, int]:
    return facts.boot_id, facts.start_ticks, facts.serial


def test_a_living_process_is_held_and_described(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    facts = handle.facts
    assert (facts.pid, facts.namespace_pid, facts.kernel_thread) == (pid, pid, False)
    assert facts.boot_id == stage.processes.boot_id()
    assert facts.exe
    assert facts.command_line
    assert not facts.frozen
    assert not facts.kill_pending
    handle.close()


def test_its_start_lies_within_this_boot_and_agrees_with_its_ticks(stage: Stage) -> None:
    handle = _open(stage, stage.spawn())
    facts, tick = handle.facts, stage.processes.tick_ns()
    since_boot = facts.started_at_ns - stage.processes.boot_time_ns()
    assert 0 < facts.start_grain_ns <= tick
    slack = 100_000  # two readings of the clocks, microseconds apart
    assert facts.start_ticks * tick - slack <= since_boot <= (facts.start_ticks + 1) * tick + slack
    handle.close()


@pytest.mark.parametrize("pid", [0, -1, -(2**31), 2**31 - 1, 2**40])
def test_a_pid_without_a_process_is_not_held(stage: Stage, pid: int) -> None:
    assert stage.processes.open(pid) is None


def test_a_process_that_has_ended_cannot_be_held(stage: Stage) -> None:
    pid = stage.spawn()
    stage.end(pid)
    assert stage.processes.open(pid) is None


def test_a_zombie_has_ended(stage: Stage) -> None:
    held, later = stage.spawn(), stage.spawn()
    handle = _open(stage, held)
    stage.zombie(held)
    stage.zombie(later)
    assert handle.wait_gone(0)
    assert handle.refresh() is None
    assert stage.processes.open(later) is None
    handle.close()


def test_sigkill_ends_it_and_waiting_notices(stage: Stage) -> None:
    handle = _open(stage, stage.spawn())
    assert not handle.wait_gone(0)
    assert handle.refresh() is not None
    assert handle.signal(signal.SIGKILL)
    assert handle.wait_gone(10)
    assert handle.refresh() is None
    handle.close()


def test_a_signal_to_a_process_that_has_ended_reaches_none(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    stage.end(pid)
    assert not handle.signal(signal.SIGKILL)
    assert handle.wait_gone(0)
    handle.close()


def test_a_held_process_never_becomes_the_next_holder_of_its_pid(stage: Stage) -> None:
    pid = stage.spawn()
    first = _open(stage, pid)
    stage.end(pid)
    stage.reuse(pid)
    second = _open(stage, pid)
    assert _identity(first.facts) != _identity(second.facts)
    assert not first.signal(signal.SIGKILL)
    assert first.wait_gone(0)
    assert not second.wait_gone(0)
    first.close()
    second.close()


def test_what_was_bound_earlier_is_held_again_and_can_be_killed(stage: Stage) -> None:
    pid = stage.spawn()
    first = _open(stage, pid)
    claimed = first.facts.identity
    first.close()
    for known in (claimed, replace(claimed, serial=0)):  # as bound on a kernel that numbers no processes
        again = stage.processes.reopen(pid, known)
        assert again is not None
        facts = again.refresh()
        assert facts is not None
        assert facts.identity == claimed
        again.close()
    held = stage.processes.reopen(pid, claimed)
    assert held is not None
    assert held.signal(signal.SIGKILL)
    assert held.wait_gone(30)
    held.close()
    assert stage.processes.reopen(pid, claimed) is None


def test_another_process_or_another_boots_is_never_held_again(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    claimed = handle.facts.identity
    handle.close()
    other = claimed.start_ticks + 1
    for stranger in (
        replace(claimed, boot_id="another"),
        replace(claimed, serial=0, start_ticks=other),
        replace(claimed, serial=claimed.serial + 1, start_ticks=other),
    ):
        assert stage.processes.reopen(pid, stranger) is None
    assert stage.processes.reopen(1 << 40, claimed) is None


def test_the_next_holder_of_a_pid_is_not_reopened(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    claimed = handle.facts.identity
    handle.close()
    stage.end(pid)
    assert stage.processes.reopen(pid, claimed) is None
    stage.reuse(pid)
    assert stage.processes.reopen(pid, claimed) is None


def test_executing_another_program_changes_the_evidence_and_not_the_identity(stage: Stage) -> None:
    pid = stage.spawn_executing()
    handle = _open(stage, pid)
    stage.execute(pid)
    after = handle.refresh()
    assert after is not None
    assert after.exe.endswith("/sleep")
    assert after.exe != handle.facts.exe
    assert _identity(after) == _identity(handle.facts)
    handle.close()


def test_a_frozen_process_takes_sigkill_when_it_is_thawed(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    stage.freeze(pid)
    frozen = handle.refresh()
    assert frozen is not None
    assert frozen.frozen
    assert not frozen.kill_pending
    assert handle.signal(signal.SIGKILL)
    assert not handle.wait_gone(0.05)
    waiting = handle.refresh()
    assert waiting is not None
    assert waiting.kill_pending
    stage.thaw(pid)
    assert handle.wait_gone(10)
    handle.close()


def _await(handle: ProcessHandle, settled: Callable[[Sequence[ThreadFacts]], bool]) -> bool:
    found = handle.wait_threads(settled, 10)
    return found is not None and settled(found)


@pytest.mark.parametrize("sent_to", ["the process", "each thread"])
def test_a_stopped_process_shows_it_and_continues_on_the_signal(stage: Stage, sent_to: str) -> None:
    handle = _open(stage, stage.spawn())
    assert none_stopped(handle.threads() or ())
    if sent_to == "the process":
        assert handle.signal(signal.SIGSTOP)
    else:
        handle.signal_each(signal.SIGSTOP)
    assert _await(handle, all_stopped)
    facts = handle.refresh()
    assert facts is not None
    assert facts.state == "T"
    assert handle.signal(signal.SIGCONT)
    assert _await(handle, none_stopped)
    handle.close()


def test_waiting_for_a_stop_that_does_not_come_ends(stage: Stage) -> None:
    handle = _open(stage, stage.spawn())
    found = handle.wait_threads(all_stopped, 0.05)
    assert found is not None
    assert not all_stopped(found)
    handle.close()


def test_in_a_frozen_cgroup_the_stop_waits_and_can_be_taken_back(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    stage.freeze(pid)
    assert handle.signal(signal.SIGSTOP)
    waiting = handle.wait_threads(all_stopped, 0.05)
    assert waiting is not None
    assert halt_of(waiting, frozen=True) is Halt.ARRIVING
    assert handle.signal(signal.SIGCONT)
    assert none_stopped(handle.threads() or ())
    assert handle.signal(signal.SIGSTOP)
    stage.thaw(pid)
    assert _await(handle, all_stopped)
    handle.close()


def test_its_children_are_listed_and_no_others(stage: Stage) -> None:
    parent, child, grandchild = stage.spawn_family()
    for pid, expected in ((parent, (child,)), (child, (grandchild,)), (grandchild, ())):
        handle = _open(stage, pid)
        assert tuple(handle.children() or ()) == expected
        handle.close()
    handle = _open(stage, grandchild)
    assert handle.facts.parent_pid == child
    handle.close()


def test_a_process_that_has_ended_has_neither_threads_nor_children(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    stage.end(pid)
    stage.reuse(pid)
    assert handle.threads() is None
    assert handle.wait_threads(all_stopped, 1) is None
    assert handle.children() is None
    handle.signal_each(signal.SIGSTOP)
    stranger = _open(stage, pid)
    assert none_stopped(stranger.threads() or ()), "the next holder of the pid got no signal"
    handle.close()
    stranger.close()


def test_without_the_kernels_list_of_children_every_process_is_read() -> None:
    assert set(tasks.children_by_parent(os.getppid())) >= {os.getpid()}


def test_a_snapshot_is_of_the_process_that_is_held(stage: Stage) -> None:
    pid = stage.spawn()
    handle = _open(stage, pid)
    claimed = handle.facts.identity
    handle.close()
    again = stage.processes.reopen(pid, claimed)
    assert again is not None
    taken = again.snapshot(timeout_s=10)
    assert taken is not None
    assert taken.process.identity == claimed
    assert not taken.ended
    stage.end(pid)
    assert again.snapshot(timeout_s=10) is None
    stage.reuse(pid)
    assert again.snapshot(timeout_s=10) is None
    again.close()


def test_closing_twice_is_allowed(stage: Stage) -> None:
    handle = _open(stage, stage.spawn())
    handle.close()
    handle.close()


def test_our_own_line_ends_at_pid_1(stage: Stage) -> None:
    line = stage.processes.own_line()
    assert 1 in line
    assert len(set(line)) == len(line)


def test_the_own_line_is_this_process_its_ancestors_and_the_supervisors_workers() -> None:
    child = Victims()
    pid = child.spawn()
    processes = SystemProcesses(siblings=lambda: (pid, os.getpid()))
    assert processes.own_line()[:2] == (os.getpid(), os.getppid())
    assert processes.own_line()[-1] == pid
    assert processes.own_line().count(os.getpid()) == 1
    child.close()


def test_a_worker_may_hold_as_many_processes_as_it_is_permitted() -> None:
    def raise_it() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))
        assert pidfd.allow_descriptors() == 2048
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
        assert pidfd.allow_descriptors() == 1024

    assert in_a_child(raise_it) == 0


def test_descriptors_do_not_leak() -> None:
    started = Victims()
    pid = started.spawn()
    processes = SystemProcesses()
    before = _descriptors()
    for _ in range(20):
        handle = processes.open(pid)
        assert handle is not None
        handle.close()
    started.kill_unreaped(pid)
    await_state(pid, "Z")
    for _ in range(20):
        assert processes.open(pid) is None
    assert _descriptors() == before
    started.close()

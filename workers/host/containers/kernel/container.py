"""One container as the kernel alone knows it: killed by pidfd, frozen by its cgroup.

Made by ``containers``. Must never act on a run that the claim does not name, nor on this worker.
"""

import os
import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy
from workers.host.containers.cgroup_hierarchies import ContainerCgroup
from workers.host.containers.kernel import cgroup
from workers.host.containers.kernel.members import KernelView, hold
from workers.host.containers.kernel.run_name import run_name
from workers.host.containers.ports import Refusal
from workers.host.processes.pidfd import ended

if TYPE_CHECKING:
    from workers.host.containers.kernel.containers import KernelContainers

_FREEZE_S: Final = 2.0
_FREEZE_BEFORE_KILL_S: Final = 0.2
"""How long a kill waits for a freezer: a process inside a system call delays it, and is killed as it is."""
_KILL_S: Final = 5.0
_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class KernelContainer:
    """See ``ports.ContainerHandle``."""

    ref: ContainerRef
    containers: "KernelContainers"

    def inspect(self) -> ContainerFacts | None:
        """None when no process of it is left. Raises nothing."""
        view = self.containers.view(self.ref)
        if view is None:
            return None
        return self.containers.facts(view, run_name(self.ref).digits, claimed=self.ref)

    def restrain(self, policy: RestartPolicy) -> Refusal | None:
        """The kernel restarts nothing."""
        del policy
        return Refusal("no runtime answers for it, and the kernel knows no restart policy", may_pass=False)

    def stop(self, *, grace_s: int) -> Refusal | None:
        """The kernel does not know its stop signal."""
        del grace_s
        return Refusal("no runtime answers for it, so it can only be killed or paused", may_pass=False)

    def start(self) -> Refusal | None:
        """The kernel does not know what to start."""
        return Refusal("no runtime answers for it, and only its runtime can start it", may_pass=False)

    def logs(self, *, tail: int, since_ns: int) -> Generator[bytes]:
        """The kernel keeps none."""
        del tail, since_ns
        raise PermanentFailure("no runtime answers for it, and only its runtime has its logs", code="logs_unsupported")

    def kill(self) -> Refusal | None:
        """SIGKILL to every member, each held by pidfd, until none is left or 5 s are over. What is frozen is thawed
        once every member has its SIGKILL: none of them runs again."""
        clock = self.containers.clock
        view, refused = self._same_run()
        until_ns = clock.monotonic_ns() + round(_KILL_S * 1e9)
        while view is not None and refused is None:
            self._sweep(view)
            if clock.monotonic_ns() >= until_ns:
                return None  # the caller inspects whether it has ended
            clock.sleep(_POLL_S)
            view, over = self._same_run()
            if over is not None:
                return None
        return refused

    def pause(self) -> Refusal | None:
        """The freezer: of version 1 where it is in one, as its runtime would, else of version 2."""
        view, refused = self._same_run()
        if view is None or refused is not None:
            return refused
        if is_frozen(view):
            return Refusal("it is frozen already", may_pass=False)
        faults = [fault for each in _freezers(view) if (fault := cgroup.freeze(each))]
        if faults or not _freezers(view):
            return Refusal(faults[0] if faults else "it is in no freezer", may_pass=bool(faults))
        if self._await_frozen(_freezers(view), _FREEZE_S):
            return None
        return Refusal("not all of it is frozen yet: a process is inside a system call", may_pass=True)

    def unpause(self) -> Refusal | None:
        """The freezer again."""
        view, refused = self._same_run()
        if view is None or refused is not None:
            return refused
        if not is_frozen(view):
            return Refusal("it is not frozen", may_pass=False)
        faults = [fault for each in _freezers(view) if (fault := cgroup.thaw(each))]
        return Refusal(faults[0], may_pass=True) if faults else None

    def _same_run(self) -> tuple[KernelView | None, Refusal | None]:
        """What the claim names, if it is still the same run and not this worker; else why not."""
        view = self.containers.view(self.ref)
        if view is None:
            return None, Refusal("no process of it is left", may_pass=False)
        if not same_run(view, self.ref):
            return view, Refusal("it was started again since", may_pass=False)
        if set(view.pids) & {1, os.getpid(), *self.containers.own_line()}:
            return view, Refusal("this worker, or the init of this machine, is in it", may_pass=False)
        return view, None

    def _sweep(self, view: KernelView) -> None:
        """All of it once. Version 1 cannot kill a whole cgroup: it is frozen first, so that nothing is forked
        meanwhile."""
        freezers = [each for each in view.cgroups if cgroup.can_freeze(each)]
        version_1 = [each for each in freezers if each.hierarchy]
        for each in view.cgroups:
            cgroup.kill(each)
        for each in version_1:
            cgroup.freeze(each)
        if self._await_frozen(version_1, _FREEZE_BEFORE_KILL_S):
            view = self.containers.view(self.ref) or view
        for pid in view.pids:
            self._kill(pid, view)
        for each in freezers:
            cgroup.thaw(each)

    def _await_frozen(self, freezers: Sequence[ContainerCgroup], timeout_s: float) -> bool:
        """Whether all of them are frozen, at the latest after that time."""
        clock = self.containers.clock
        until_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
        while not all(cgroup.is_frozen(each) for each in freezers):
            if clock.monotonic_ns() >= until_ns:
                return False
            clock.sleep(_POLL_S)
        return bool(freezers)

    def _kill(self, pid: int, view: KernelView) -> None:
        """One member: held first, then checked again, so that no other process with its pid is hit."""
        descriptor = hold(pid)
        if descriptor is None:
            return
        try:
            if self.containers.is_member(pid, view, self.ref) and not ended(descriptor):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


def same_run(view: KernelView, ref: ContainerRef) -> bool:
    """Whether it is the run that ``ref`` names."""
    return not view.by_system or run_name(ref).inode in {each.inode for each in view.cgroups}


def is_frozen(view: KernelView) -> bool:
    """Whether all of it is frozen."""
    freezers = _freezers(view)
    return bool(freezers) and all(cgroup.is_frozen(each) for each in freezers)


def _freezers(view: KernelView) -> list[ContainerCgroup]:
    """The cgroups to freeze it by: version 1's where there is one."""
    version_1 = [each for each in view.cgroups if each.hierarchy and cgroup.can_freeze(each)]
    return version_1 or [each for each in view.cgroups if cgroup.can_freeze(each)]

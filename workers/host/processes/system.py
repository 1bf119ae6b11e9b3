"""Opens processes by pidfd: the port ``Processes`` on the real kernel.

Made by ``wiring``, called by actions. ``facts_reader`` reads the facts while the descriptor holds the process.
"""

import os
from collections.abc import Callable

from workers.domain.targets.process import ProcessIdentity
from workers.domain.targets.process_identity import is_same
from workers.host.containers.bundles import BUNDLES
from workers.host.processes import cgroups, proc_files
from workers.host.processes.boot import Boot
from workers.host.processes.facts_reader import FactsReader
from workers.host.processes.handle import HeldPidfd, PidfdHandle
from workers.host.processes.pidfd import hold, while_held
from workers.system.parent import ancestors


class SystemProcesses:
    """The processes of this host."""

    def __init__(
        self,
        *,
        siblings: Callable[[], tuple[int, ...]] = tuple,
        fine_start: bool = True,
        bundles: tuple[str, ...] = BUNDLES,
    ) -> None:
        """``siblings`` are the pids of the workers that the same supervisor runs, asked for anew each time;
        ``fine_start`` False leaves start times at a tick, as they are where the kernel shows no more; ``bundles``
        are where runtimes keep what they know of a container."""
        self._boot = Boot()
        self._reader = FactsReader(self._boot, fine_start=fine_start, bundles=bundles)
        self._siblings = siblings
        self._own_cgroup = _own_cgroup()

    def open(self, pid: int) -> PidfdHandle | None:
        descriptor = hold(pid)
        if descriptor is None:
            return None
        try:
            facts = self._reader.read_held(pid, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if facts is None:
            os.close(descriptor)
            return None
        return PidfdHandle(descriptor, facts, read=self._reader.read_held)

    def reopen(self, pid: int, claimed: ProcessIdentity) -> HeldPidfd | None:
        descriptor = hold(pid)
        if descriptor is None:
            return None
        try:
            holder = self._reader.identity_held(pid, descriptor, with_ticks=not claimed.serial)
        except BaseException:
            os.close(descriptor)
            raise
        if holder is None or not is_same(holder, claimed):
            os.close(descriptor)
            return None
        return HeldPidfd(descriptor, pid, read=self._reader.read_held)

    def child(self, pid: int, *, of: int) -> HeldPidfd | None:
        descriptor = hold(pid)
        if descriptor is None:
            return None
        try:
            parent = while_held(pid, descriptor, lambda: proc_files.parent(pid))
        except BaseException:
            os.close(descriptor)
            raise
        if parent != of:
            os.close(descriptor)
            return None
        return HeldPidfd(descriptor, pid, read=self._reader.read_held)

    def boot_id(self) -> str:
        return self._boot.id

    def boot_time_ns(self) -> int:
        return self._boot.time_ns()

    def tick_ns(self) -> int:
        return self._boot.tick_ns

    def own_line(self) -> tuple[int, ...]:
        line = ancestors()
        return (*line, *(pid for pid in self._siblings() if pid not in line))

    def own_cgroup(self) -> str:
        return self._own_cgroup


def _own_cgroup() -> str:
    """A unit belongs to this process when its topmost ancestor inside it is its supervisor or the process itself: a
    shell that ``sshd`` or a terminal's service started shares theirs, and so may malware started from it."""
    own = proc_files.cgroup(os.getpid())
    contained = cgroups.in_container(proc_files.link("/proc/self/ns/cgroup"))
    if not (cgroups.is_unit(own) or cgroups.is_pod(own) or (contained and own == "/")):
        return ""
    line = ancestors()
    topmost = [pid for pid in line if proc_files.cgroup(pid) == own][-1]
    same_program = proc_files.link(f"/proc/{topmost}/exe") == proc_files.link("/proc/self/exe")
    return own if topmost in line[:2] and same_program else ""

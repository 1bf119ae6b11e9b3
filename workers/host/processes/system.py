"""Opens processes by pidfd: the port ``Processes`` on the real kernel.

Made by ``wiring``, called by actions. What a process is, ``reader`` finds out while the descriptor holds it.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.process import ProcessIdentity
from workers.domain.targets.process_identity import is_same
from workers.host.containers.bundles import BUNDLES
from workers.host.processes import cgroups, texts
from workers.host.processes.boot import Boot
from workers.host.processes.handle import HeldPidfd, PidfdHandle
from workers.host.processes.holding import SHORT, while_held
from workers.host.processes.reader import Reader

_NOBODY: Final = {errno.ESRCH, errno.ENOENT, errno.EINVAL}
"""No such process; EINVAL is a pid that is none, or a thread's number."""
_MANY_ANCESTORS: Final = 4096


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
        ``fine_start`` False leaves start times at a tick, as they are where the kernel tells us no more; ``bundles``
        are where runtimes keep what they know of a container."""
        self._boot = Boot()
        self._reader = Reader(self._boot, fine_start=fine_start, bundles=bundles)
        self._siblings = siblings
        self._own_cgroup = _own_cgroup()

    def open(self, pid: int) -> PidfdHandle | None:
        """Hold the present holder of ``pid``: see the port."""
        descriptor = _hold(pid)
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
        """Hold the process that was bound earlier: see the port."""
        descriptor = _hold(pid)
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
        """Hold a child: see the port."""
        descriptor = _hold(pid)
        if descriptor is None:
            return None
        try:
            parent = while_held(pid, descriptor, lambda: texts.parent(pid))
        except BaseException:
            os.close(descriptor)
            raise
        if parent != of:
            os.close(descriptor)
            return None
        return HeldPidfd(descriptor, pid, read=self._reader.read_held)

    def boot_id(self) -> str:
        """This boot."""
        return self._boot.id

    def boot_time_ns(self) -> int:
        """When this boot began, nanoseconds since the epoch."""
        return self._boot.time_ns()

    def tick_ns(self) -> int:
        """The grain of start times."""
        return self._boot.tick_ns

    def own_line(self) -> tuple[int, ...]:
        """This process, its ancestors, nearest first, and its siblings."""
        line = _ancestors()
        return (*line, *(pid for pid in self._siblings() if pid not in line))

    def own_cgroup(self) -> str:
        """This process's cgroup where it is a unit or pod that runs nothing else; empty where it shares one."""
        return self._own_cgroup


def _hold(pid: int) -> int | None:
    """A pidfd; None when there is no such process."""
    try:
        return os.pidfd_open(pid)
    except OverflowError:
        return None
    except OSError as error:
        if error.errno in _NOBODY:
            return None
        if error.errno in SHORT:
            raise TransientFailure(f"process {pid} cannot be held: {error.strerror}") from error
        raise PermanentFailure(
            f"this kernel or its seccomp profile gives no pidfd ({error.strerror}): Douse needs Linux 5.3 or newer",
            code="no_pidfd",
        ) from error


def _own_cgroup() -> str:
    """A unit is ours when the topmost of our ancestors inside it is our supervisor or this process itself: a shell that
    ``sshd`` or a terminal's service started shares theirs, and so may the malware started from it."""
    own = texts.cgroup(os.getpid())
    contained = cgroups.in_container(texts.link("/proc/self/ns/cgroup"))
    if not (cgroups.is_unit(own) or cgroups.is_pod(own) or (contained and own == "/")):
        return ""
    line = _ancestors()
    topmost = [pid for pid in line if texts.cgroup(pid) == own][-1]
    same_program = texts.link(f"/proc/{topmost}/exe") == texts.link("/proc/self/exe")
    return own if topmost in line[:2] and same_program else ""


def _ancestors() -> list[int]:
    """This process and its ancestors, nearest first."""
    line = [os.getpid()]
    while line[-1] > 1 and len(line) < _MANY_ANCESTORS:
        parent = texts.parent(line[-1])
        if parent <= 0:
            break
        line.append(parent)
    return line

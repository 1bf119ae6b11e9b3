"""Reads the facts of a process while a pidfd holds it.

Called by ``system`` at opening and by the handle at a refresh. ``pidfd.while_held`` proves that what is read by pid was
read of the process that is held.
"""

import os
from typing import Final

from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.host.containers.bundles import BUNDLES, is_sandbox
from workers.host.containers.cgroup_hierarchies import Hierarchies
from workers.host.processes import cgroups, proc_files, procfs
from workers.host.processes.boot import Boot
from workers.host.processes.executable import Executable, executable
from workers.host.processes.fine_start import FineStart
from workers.host.processes.pidfd import while_held


class FactsReader:
    """Knows the boot, the cgroup hierarchies and whether the kernel shows fine start times."""

    def __init__(self, boot: Boot, *, fine_start: bool, bundles: tuple[str, ...] = BUNDLES) -> None:
        """Inspects this machine once. ``bundles`` are where runtimes keep what they know of a container."""
        self._boot: Final = boot
        self._cgroups: Final = cgroups.Cgroups()
        self._fine: Final = FineStart() if fine_start else None
        self._has_serials: Final = _has_serials()
        self._bundles: Final = bundles
        self._hierarchies: Final = Hierarchies()

    def read_held(self, pid: int, descriptor: int) -> ProcessFacts | None:
        """The facts of the process that ``descriptor`` holds; None when it has ended before or meanwhile."""
        return while_held(pid, descriptor, lambda: self._read(pid, descriptor))

    def identity_held(self, pid: int, descriptor: int, *, with_ticks: bool) -> ProcessIdentity | None:
        """What identifies the process that ``descriptor`` holds; None when it has ended. Its start is read
        ``with_ticks``, or where the kernel numbers no processes."""

        def read() -> ProcessIdentity:
            serial = self._serial(descriptor)
            ticks = 0
            if with_ticks or not serial:
                ticks = procfs.parse_stat(proc_files.contents(f"/proc/{pid}/stat")).start_ticks
            return ProcessIdentity(self._boot.id, ticks, serial)

        return while_held(pid, descriptor, read)

    def _read(self, pid: int, descriptor: int) -> ProcessFacts:
        stat = procfs.parse_stat(proc_files.contents(f"/proc/{pid}/stat"))
        status = procfs.parse_status(proc_files.contents(f"/proc/{pid}/status"))
        paths = procfs.parse_cgroups(proc_files.contents(f"/proc/{pid}/cgroup"))
        exe = executable(pid)
        since_boot, grain = stat.start_ticks * self._boot.tick_ns, self._boot.tick_ns
        if self._fine is not None:
            fine = self._fine.since_boot_ns(pid, not_before_ns=since_boot, tick_ns=grain)
            since_boot, grain = fine or (since_boot, grain)
        cgroup = procfs.one_cgroup(paths)
        return ProcessFacts(
            pid=pid,
            started_at_ns=self._boot.time_ns() + since_boot,
            boot_id=self._boot.id,
            parent_pid=stat.parent_pid,
            exe=procfs.readable(os.fsencode(exe.path)),
            exe_device=exe.device,
            exe_inode=exe.inode,
            exe_trusted=exe.trusted,
            name=stat.name,
            command_line=proc_files.command_line(pid),
            state=stat.state,
            cgroup=procfs.readable(os.fsencode(cgroup)),
            uid=status.uid,
            kernel_thread=stat.kernel_thread,
            frozen=self._cgroups.frozen(paths),
            namespace_pid=status.namespace_pid,
            start_ticks=stat.start_ticks,
            start_grain_ns=grain,
            serial=self._serial(descriptor),
            kill_pending=status.kill_pending,
            pod_sandbox=status.namespace_pid == 1 and self._holds_pod(paths),
            oldest_in_cgroup=self._oldest(pid, stat, exe, cgroup=cgroup, paths=paths),
        )

    def _holds_pod(self, paths: dict[str, str]) -> bool:
        """Only asked of the init of a pid namespace: what its container's runtime wrote into a file of root's. A cgroup
        that another user may have named like a sandbox does not count."""
        ids = {cgroup.id for cgroup in self._hierarchies.cgroups(paths, "") if cgroup.by_system}
        return any(is_sandbox(each, self._bundles) for each in ids)

    def _serial(self, descriptor: int) -> int:
        inode = os.fstat(descriptor).st_ino if self._has_serials else 0
        return inode if inode < 1 << 63 else 0  # travels as a signed 64-bit number

    def _oldest(self, pid: int, stat: procfs.Stat, exe: Executable, *, cgroup: str, paths: dict[str, str]) -> bool:
        """Only asked where an answer can matter: a unit may have thousands of members."""
        if not exe.trusted or not cgroups.is_unit(cgroup):
            return False
        members = self._cgroups.members(paths)
        if pid not in members or stat.parent_pid in members:
            return False
        return all(proc_files.start_ticks(other) >= stat.start_ticks for other in members if other != pid)


def _has_serials() -> bool:
    """Since Linux 6.9 pidfds have a filesystem of their own, whose inodes number the processes; before, all pidfds
    share the one inode of everything anonymous."""
    try:
        pidfd, other = os.pidfd_open(os.getpid()), os.eventfd(0)
    except OSError:
        return False
    try:
        return os.fstat(pidfd).st_dev != os.fstat(other).st_dev
    finally:
        os.close(pidfd)
        os.close(other)

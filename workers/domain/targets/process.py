"""Facts about one process: identity, protection and evidence are judged by these.

Read by ``host.processes``, judged by ``domain.targets.process_identity`` and ``domain.targets.protected_processes``,
recorded by actions. Pure values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What distinguishes a process from every other that ever had its pid."""

    boot_id: str
    start_ticks: int
    """Start in clock ticks since boot: setting the clock does not change it."""
    serial: int = 0
    """The kernel's own number, never given twice in one boot (Linux 6.9); 0 where it has none."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process, read while a pidfd held it. ``boot_id``, ``start_ticks`` and ``serial`` are identity; the rest is
    evidence, and most of it (exe, name, command line, cgroup) can be changed by the process itself."""

    pid: int
    started_at_ns: int
    """Nanoseconds since the epoch: at most ``start_grain_ns`` before the true start, never after it."""
    boot_id: str
    parent_pid: int
    exe: str
    """Empty where it may not be read, and for a kernel thread."""
    exe_device: int
    exe_inode: int
    exe_trusted: bool
    """It is the host's own file of that path; root owns it and every directory above, and only root may write."""
    name: str
    command_line: str
    """Secrets masked."""
    state: str
    """One letter, as in /proc/<pid>/stat."""
    cgroup: str
    uid: int
    """The real user id."""
    kernel_thread: bool
    frozen: bool
    """Its cgroup is frozen: signals wait until it thaws."""
    namespace_pid: int
    """Its pid inside its own pid namespace; 1 is a container's init."""
    start_ticks: int = 0
    """Start in clock ticks since boot: unlike ``started_at_ns`` it stays the same when the clock is set."""
    start_grain_ns: int = 10_000_000
    """How much later than ``started_at_ns`` it may have started: one tick (USER_HZ is 100), or less where the kernel
    is more precise."""
    serial: int = 0
    """The kernel's own number of this process, never given twice in one boot (Linux 6.9); 0 where it has none."""
    kill_pending: bool = False
    """A SIGKILL has been sent and not yet taken."""
    oldest_in_cgroup: bool = False
    """No process of its cgroup is older: a unit's own main process, and nothing that it started."""
    pod_sandbox: bool = False
    """It is the init that holds a pod's namespaces, as the pod's runtime wrote down in a file of root's."""

    @property
    def identity(self) -> ProcessIdentity:
        """The part of it that no process can change."""
        return ProcessIdentity(self.boot_id, self.start_ticks, self.serial)

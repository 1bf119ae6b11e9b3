"""The seam to the kernel's processes.

A pid is a name that passes from one process to the next. So a process is opened once, as a pidfd, and whatever is read
or done afterwards goes through that descriptor: it can end, but it can never become another process.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from workers.domain.targets.halting import ThreadFacts
from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.domain.targets.process_snapshot import ProcessSnapshot


class HeldProcess(Protocol):
    """A held process: a pidfd. Whatever happens to the pid, this never becomes another process."""

    def refresh(self) -> ProcessFacts | None:
        """The facts now; None when it is gone (or a zombie)."""

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; False when it is gone already. Raises ``PermanentFailure``
        (``permission``)."""

    def signal_each(self, number: int) -> None:
        """Send a signal to each of its threads by itself. A signal to the whole process may wait for one thread that is
        held in the kernel while the others run on. Does nothing before Linux 6.9. Raises as ``threads``."""

    def threads(self) -> Sequence[ThreadFacts] | None:
        """Its threads now; None when it has ended. Raises ``PermanentFailure`` (``facts_hidden``), ``TransientFailure``
        when descriptors are short."""

    def wait_threads(
        self, settled: Callable[[Sequence[ThreadFacts]], bool], timeout_s: float
    ) -> Sequence[ThreadFacts] | None:
        """Blocks until ``settled`` is true of its threads, or the time is over; the last ones read, None when it has
        ended. Raises as ``threads``."""

    def children(self) -> Sequence[int] | None:
        """The pids of its children; None when it has ended. Complete only while none of its threads runs: the
        caller must hold each and check that it is a child of this one. Raises as ``threads``."""

    def snapshot(self, *, timeout_s: float) -> ProcessSnapshot | None:
        """Everything the kernel shows of it, read while it is held; None when it has ended. Touches nothing. What takes
        longer, or cannot be read, is left out and listed as missing. Raises ``PermanentFailure`` (``facts_hidden``)."""

    def wait_gone(self, timeout_s: float) -> bool:
        """Blocks until it has ended, or the time is over."""

    def close(self) -> None:
        """Idempotent."""


class ProcessHandle(HeldProcess, Protocol):
    """A held process with its facts."""

    @property
    def facts(self) -> ProcessFacts:
        """Read after the handle was opened, so they are this process's. Raises nothing: read once at opening."""


class Processes(Protocol):
    """The processes of this host."""

    def open(self, pid: int) -> ProcessHandle | None:
        """Hold the present holder of ``pid``; None when there is none, or only a zombie. Raises ``PermanentFailure``
        (``no_pidfd``, ``facts_hidden``) where the kernel has no pidfd or hides it, ``TransientFailure``
        when descriptors are short."""

    def reopen(self, pid: int, claimed: ProcessIdentity) -> HeldProcess | None:
        """Hold the process that was bound earlier; None when it has ended, whatever has its pid now. Reads no more than
        what distinguishes the two: it is called between a claim and its signal. Raises as ``open``."""

    def child(self, pid: int, *, of: int) -> HeldProcess | None:
        """Hold the present holder of ``pid`` where its parent is the holder of ``of``; None where it is not. Reads no
        more than that: on a machine that a fork bomb keeps busy every read takes its time. Raises as ``open``."""

    def boot_id(self) -> str:
        """This boot."""

    def boot_time_ns(self) -> int:
        """When this boot began, nanoseconds since the epoch."""

    def tick_ns(self) -> int:
        """The grain of start times, in nanoseconds."""

    def own_line(self) -> tuple[int, ...]:
        """This process, its ancestors, nearest first, and the sibling workers of the same supervisor."""

    def own_cgroup(self) -> str:
        """This process's cgroup where it is a unit or pod of its own; empty where it shares one."""

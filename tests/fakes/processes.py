"""A table of processes that a test scripts: pids are reused, programs execute others, cgroups freeze, calls get stuck.

Handles behave like pidfds: one opened on a process stays that process's, whoever gets the pid later.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.fakes.clock import FakeClock
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.targets.halting import ThreadFacts
from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.domain.targets.process_identity import is_same
from workers.domain.targets.process_snapshot import Listed, ProcessSnapshot, Variable

TICK_NS: Final = 10_000_000
BOOT_ID: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
UPTIME_NS: Final = 3_600_000_000_000


@dataclass(slots=True)
class FakeProcess:
    """One process that lives, or did. Change ``facts`` at will."""

    facts: ProcessFacts
    alive: bool = True
    permitted: bool = True
    hidden: bool = False
    stuck: bool = False
    environment: tuple[Variable, ...] = ()
    signals: list[int] = field(default_factory=list)
    each: list[int] = field(default_factory=list)
    """Which of ``signals`` went to its threads one by one."""
    shielded: bool = False
    """Its main thread is in a call that nothing interrupts, and takes the process's signals for its other one."""
    traced: bool = False
    """A tracer holds it at the first signal that it gets."""
    guarded: bool = False
    """Somebody lets it go on whenever it was stopped."""
    held_down: bool = False
    """Somebody stops it whenever it was let go on."""
    slips: int = 0
    """So many stops are lost, because one of its threads executes just then."""
    stop_waits: bool = False
    before_signal: Callable[[int], None] | None = None

    @property
    def holds_out(self) -> bool:
        """Whether SIGKILL only waits for it: frozen, or in an uninterruptible call."""
        return self.facts.frozen or self.facts.state == "D" or self.stuck

    def exec(self, exe: str, *, name: str = "", command_line: str = "", trusted: bool = False) -> None:
        """Execute another program: identity stays, all evidence changes."""
        self.facts = replace(
            self.facts, exe=exe, name=name or exe.rpartition("/")[2], command_line=command_line, exe_trusted=trusted
        )

    def freeze(self) -> None:
        """Freeze its cgroup."""
        self.facts = replace(self.facts, frozen=True)

    def thaw(self) -> None:
        """Thaw it: a SIGKILL that waited is taken."""
        self.facts = replace(self.facts, frozen=False)
        self._take_pending()

    def stick(self) -> None:
        """Enter a call that nothing interrupts (state D)."""
        self.facts = replace(self.facts, state="D")

    def unstick(self) -> None:
        """The call returns: a SIGKILL that waited is taken."""
        self.facts = replace(self.facts, state="S")
        self._take_pending()

    def end(self) -> None:
        """It ends, for whatever reason."""
        self.alive = False

    def take(self, number: int, *, by_thread: bool = False) -> None:
        """A signal arrives."""
        if self.before_signal is not None:
            self.before_signal(number)
        (self.each if by_thread else self.signals).append(number)
        if number == signal.SIGKILL:
            self.facts = replace(self.facts, kill_pending=True)
            self._take_pending()
        elif number == signal.SIGSTOP and not self.guarded:
            self._stop(by_thread=by_thread)
        elif number == signal.SIGCONT and not self.held_down:
            self.go_on()

    def go_on(self) -> None:
        """Whatever stopped it is over, and no stop waits for it any more."""
        self.stop_waits = False
        if self.facts.state == "T":
            self.facts = replace(self.facts, state="S")

    @property
    def threads(self) -> tuple[ThreadFacts, ...]:
        """As the kernel would show them: one, or two where the main one is a shield."""
        pid, state = self.facts.pid, self.facts.state
        if not self.shielded:
            return (ThreadFacts(pid, state, self.stop_waits),)
        return (ThreadFacts(pid, "D", self.stop_waits), ThreadFacts(pid + 1, state, self.stop_waits and state != "T"))

    def _stop(self, *, by_thread: bool) -> None:
        if self.slips:
            self.slips -= 1
        elif self.holds_out or (self.shielded and not by_thread):
            self.stop_waits = True
        else:
            self.stop_waits = self.shielded
            self.facts = replace(self.facts, state="t" if self.traced else "T")

    def _take_pending(self) -> None:
        if self.facts.kill_pending and not self.holds_out:
            self.alive = False
        elif self.stop_waits and not self.holds_out:
            self._stop(by_thread=True)


class FakeHandle:
    """Holds one ``FakeProcess``."""

    def __init__(self, process: FakeProcess, clock: FakeClock, table: dict[int, FakeProcess]) -> None:
        self._process = process
        self._clock = clock
        self._table = table
        self._facts = process.facts
        self.closed = False

    @property
    def facts(self) -> ProcessFacts:
        return self._facts

    def refresh(self) -> ProcessFacts | None:
        return self._process.facts if self._process.alive else None

    def signal(self, number: int) -> bool:
        if self.closed:
            raise OSError("the descriptor is closed")
        if not self._process.alive:
            return False
        if not self._process.permitted:
            raise PermanentFailure(f"may not signal process {self._facts.pid}", code="permission")
        self._process.take(number)
        return True

    def signal_each(self, number: int) -> None:
        if self._process.alive:
            self._process.take(number, by_thread=True)

    def threads(self) -> tuple[ThreadFacts, ...] | None:
        return self._process.threads if self._process.alive else None

    def wait_threads(
        self, settled: Callable[[Sequence[ThreadFacts]], bool], timeout_s: float
    ) -> tuple[ThreadFacts, ...] | None:
        if self._process.alive and not settled(self._process.threads):
            self._clock.sleep(timeout_s)
        return self.threads()

    def children(self) -> tuple[int, ...] | None:
        if not self._process.alive:
            return None
        own = self._facts.pid
        return tuple(pid for pid, other in self._table.items() if other.alive and other.facts.parent_pid == own)

    def snapshot(self, *, timeout_s: float) -> ProcessSnapshot | None:
        if not self._process.alive:
            return None
        taken_at_ns = self._clock.now_ns()
        return ProcessSnapshot(self._process.facts, taken_at_ns, environment=Listed(self._process.environment))

    def wait_gone(self, timeout_s: float) -> bool:
        if self._process.alive:
            self._clock.sleep(timeout_s)
        return not self._process.alive

    def close(self) -> None:
        self.closed = True


class FakeProcesses:
    """The port ``Processes`` over a table."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock if clock is not None else FakeClock()
        self.boot: str = BOOT_ID
        self.line: tuple[int, ...] = (900, 800, 1)
        self.cgroup: str = ""
        self.handles: list[FakeHandle] = []
        self.descriptors: int = 1 << 30
        """Handles that may be open at once."""
        self._booted_at_ns = self.clock.now_ns() - UPTIME_NS
        self._table: dict[int, FakeProcess] = {}
        self._pids = itertools.count(4000)
        self._serials = itertools.count(1)

    def spawn(self, pid: int | None = None, **facts: Any) -> FakeProcess:
        """A process that starts now (or at ``started_at_ns``); whoever held the pid has ended."""
        pid = next(self._pids) if pid is None else pid
        started_at_ns = facts.pop("started_at_ns", self.clock.now_ns())
        ticks = (started_at_ns - self._booted_at_ns) // TICK_NS
        defaults: dict[str, Any] = {
            "pid": pid,
            "started_at_ns": self._booted_at_ns + ticks * TICK_NS,
            "boot_id": self.boot,
            "parent_pid": 1,
            "exe": "/tmp/xmrig",
            "exe_device": 2049,
            "exe_inode": 131,
            "exe_trusted": False,
            "name": "xmrig",
            "command_line": "/tmp/xmrig --donate-level 0",
            "state": "S",
            "cgroup": "/user.slice/user-1000.slice/session-3.scope",
            "uid": 1000,
            "kernel_thread": False,
            "frozen": False,
            "namespace_pid": pid,
            "start_ticks": ticks,
            "start_grain_ns": TICK_NS,
            "serial": next(self._serials),
        }
        if pid in self._table:
            self._table[pid].end()
        process = FakeProcess(ProcessFacts(**{**defaults, **facts}))
        self._table[pid] = process
        return process

    def reboot(self, boot_id: str) -> None:
        """Everything ends; another boot begins now."""
        for process in self._table.values():
            process.end()
        self._table.clear()
        self.boot = boot_id
        self._booted_at_ns = self.clock.now_ns()

    @property
    def effects(self) -> int:
        """How many signals were ever delivered: an action that must not act leaves it at 0."""
        return sum(len(process.signals) + len(process.each) for process in self._table.values())

    def open(self, pid: int) -> FakeHandle | None:
        process = self._table.get(pid)
        if process is None or not process.alive:
            return None
        if process.hidden:
            raise PermanentFailure(f"/proc shows nothing of process {pid}", code="facts_hidden")
        if sum(not handle.closed for handle in self.handles) >= self.descriptors:
            raise TransientFailure(f"process {pid} cannot be held: too many open files")
        parent = self._table.get(process.facts.parent_pid)
        if parent is not None and not parent.alive:  # init takes it in
            process.facts = replace(process.facts, parent_pid=1)
        handle = FakeHandle(process, self.clock, self._table)
        self.handles.append(handle)
        return handle

    def reopen(self, pid: int, claimed: ProcessIdentity) -> FakeHandle | None:
        handle = self.open(pid)
        if handle is None or is_same(handle.facts.identity, claimed):
            return handle
        handle.close()
        return None

    def child(self, pid: int, *, of: int) -> FakeHandle | None:
        handle = self.open(pid)
        if handle is None or handle.facts.parent_pid == of:
            return handle
        handle.close()
        return None

    def boot_id(self) -> str:
        return self.boot

    def boot_time_ns(self) -> int:
        return self._booted_at_ns

    def tick_ns(self) -> int:
        return TICK_NS

    def own_line(self) -> tuple[int, ...]:
        return self.line

    def own_cgroup(self) -> str:
        return self.cgroup

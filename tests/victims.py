"""Real processes for tests to find, disguise, freeze and kill; every one is ended and reaped afterwards.

Used by the contract suite of ``Processes``, the guarantees and the integration tests of kill_process. What needs root
says so through ``require``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.components import require

_NS_LAST_PID: Final = Path("/proc/sys/kernel/ns_last_pid")
_FREEZER_V1: Final = Path("/sys/fs/cgroup/freezer")
_SERVICES: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
_SLEEP: Final = (shutil.which("sleep") or "/bin/sleep", "1000")
_LONGEST_S: Final = 30.0


class Victims:
    """Starts processes, and leaves none behind."""

    def __init__(self) -> None:
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(self, arguments: Sequence[str] = _SLEEP, **options: object) -> int:
        """A process that lives until it is ended."""
        process: subprocess.Popen[bytes] = subprocess.Popen(list(arguments), **options)  # type: ignore[call-overload]
        self._started[process.pid] = process
        # The kernel reports the exec as done before it has laid out the arguments.
        wait_until(lambda: bool(Path(f"/proc/{process.pid}/cmdline").read_bytes()) or state_of(process.pid) == "Z")
        return process.pid

    def python(self, code: str, *arguments: str) -> int:
        """A Python program; returns once it has printed a line."""
        pid = self.spawn([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        self.read_line(pid)
        return pid

    def read_line(self, pid: int) -> bytes:
        """The next line that a process prints."""
        stdout = self._started[pid].stdout
        assert stdout is not None
        return stdout.readline()

    def tell(self, pid: int, line: str = "") -> None:
        """A line to the standard input of a process started by ``python``."""
        stdin = self._started[pid].stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def alive(self, pid: int) -> bool:
        """Whether a started process still runs; reaps it when not."""
        return self._started[pid].poll() is None

    def dead_within(self, pid: int, seconds: float) -> bool:
        """Whether it ends in that time; reaps it when it does."""
        give_up = time.monotonic() + seconds
        while self.alive(pid):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.001)
        return True

    def end(self, pid: int) -> None:
        """Kill and reap it: its pid is free."""
        process = self._started[pid]
        process.kill()
        process.wait()
        self._close(process)

    def kill_unreaped(self, pid: int) -> None:
        """Kill it, and leave a zombie."""
        os.kill(pid, signal.SIGKILL)
        await_state(pid, "Z")

    def reuse(self, pid: int, *, tries: int = 50) -> int:
        """A new process under a pid that was freed; the kernel is told where to count on, others may be quicker.

        Returns 0 when it never succeeded.
        """
        require("root", "only root may choose the next pid (ns_last_pid)")
        for _ in range(tries):
            _NS_LAST_PID.write_text(str(pid - 1), encoding="ascii")
            started = os.posix_spawn(_SLEEP[0], _SLEEP, {})
            if started == pid:
                self._started[pid] = _Adopted(pid)  # type: ignore[assignment]
                return pid
            os.kill(started, signal.SIGKILL)
            os.waitpid(started, 0)
        return 0

    def close(self) -> None:
        """End all."""
        for pid in list(self._started):
            self.end(pid)
        self._started.clear()

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


class _Adopted:
    """As much of ``Popen`` as is needed for a process that was started without it."""

    stdin = None
    stdout = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            reaped, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if reaped else None
        return self._status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]


class Freezer:
    """A cgroup of its own that can be frozen: version 1, where SIGKILL waits for the thaw."""

    def __init__(self) -> None:
        require("root", "freezing a cgroup needs root")
        require("the version 1 freezer", "there SIGKILL waits", present=_FREEZER_V1.is_dir())
        self._directory = _FREEZER_V1 / f"douse-test-{uuid.uuid4().hex[:8]}"
        self._directory.mkdir()

    def freeze(self, pid: int) -> None:
        """Move a process in, and freeze it."""
        (self._directory / "cgroup.procs").write_text(str(pid), encoding="ascii")
        self._state("FROZEN")

    def thaw(self) -> None:
        """Let it go on."""
        self._state("THAWED")

    def close(self) -> None:
        """Thaw, and remove the cgroup once it is empty."""
        self.thaw()
        wait_until(lambda: not (self._directory / "cgroup.procs").read_text(encoding="ascii").strip())
        self._directory.rmdir()

    def _state(self, wanted: str) -> None:
        state = self._directory / "freezer.state"
        state.write_text(wanted, encoding="ascii")
        wait_until(lambda: state.read_text(encoding="ascii").strip() == wanted)


class Unit:
    """A cgroup as systemd makes one for a service of the system, where this machine keeps services' cgroups."""

    def __init__(self, service: str) -> None:
        require("root", "a cgroup needs root")
        hierarchy = next((path for path in _SERVICES if (path / "cgroup.procs").exists()), None)
        require("the cgroup hierarchy of services", "units live in it", present=hierarchy is not None)
        assert hierarchy is not None
        self._slice = hierarchy / "system.slice"
        self._made_slice = not self._slice.exists()
        self._directory = self._slice / f"{service}@douse-test-{uuid.uuid4().hex[:8]}.service"
        wait_until(self._made)

    def _made(self) -> bool:
        """False when another test, which runs beside this one, has just removed the slice that it had made."""
        self._slice.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._directory.mkdir()
        return self._directory.exists()

    @property
    def path(self) -> str:
        """As /proc/<pid>/cgroup shows it."""
        return f"/system.slice/{self._directory.name}"

    def take(self, pid: int) -> None:
        """Move a process in."""
        (self._directory / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def freeze(self) -> None:
        """Freeze it by version 2, where it has that."""
        freeze = self._directory / "cgroup.freeze"
        require("the version 2 freezer", "there SIGKILL goes through", present=freeze.exists())
        freeze.write_text("1", encoding="ascii")
        wait_until(lambda: "frozen 1" in (self._directory / "cgroup.events").read_text(encoding="ascii"))

    def thaw(self) -> None:
        """Let it go on."""
        (self._directory / "cgroup.freeze").write_text("0", encoding="ascii")
        wait_until(lambda: "frozen 0" in (self._directory / "cgroup.events").read_text(encoding="ascii"))

    def close(self) -> None:
        """Remove it once it is empty."""
        wait_until(lambda: not (self._directory / "cgroup.procs").read_text(encoding="ascii").strip())
        self._directory.rmdir()
        if self._made_slice:
            with contextlib.suppress(OSError):  # another test has a unit in it
                self._slice.rmdir()


@contextmanager
def victims() -> Iterator[Victims]:
    """Processes for the length of a block."""
    started = Victims()
    try:
        yield started
    finally:
        started.close()


def state_of(pid: int) -> str:
    """The letter of /proc/<pid>/stat; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode("ascii")
    except (OSError, IndexError):
        return ""


def await_state(pid: int, *letters: str) -> None:
    """Wait until a process is in one of these states."""
    wait_until(lambda: state_of(pid) in letters)


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll; a test fails after half a minute."""
    give_up = time.monotonic() + _LONGEST_S
    while not holds():
        assert time.monotonic() < give_up, "waited half a minute in vain"
        time.sleep(0.002)


def in_a_child(work: Callable[[], None]) -> int:
    """The exit code of a process that did this, and nothing else."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

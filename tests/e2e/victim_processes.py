"""Processes that die when somebody kills them, and tell the moment: the oracle of kills.

Used by `client.py` and the demo's test. Deaths are read from the kernel alone, by pidfd and waitpid.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.victims import wait_until
from workers.domain.targets.process import ProcessFacts
from workers.wiring import one_machine

_SLEEP: Final = (shutil.which("sleep") or "/bin/sleep", "1000")


class VictimProcesses:
    """Processes that die when somebody kills them, and the moment each did; reaped only at the end, so that no pid is
    ever given out twice meanwhile."""

    def __init__(self) -> None:
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self._fds: dict[int, int] = {}
        self._died_ns: dict[int, int] = {}
        self._trees: dict[int, tuple[int, ...]] = {}
        self._poll = select.epoll()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for process in self._started.values():
            process.kill()
            process.wait()
        for fd in self._fds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        self._poll.close()

    def spawn(self, arguments: Sequence[str] = _SLEEP) -> int:
        """One more."""
        process = subprocess.Popen(arguments)
        self._started[process.pid] = process
        self._hold(process.pid)
        return process.pid

    def _hold(self, pid: int) -> None:
        fd = os.pidfd_open(pid)
        self._fds[fd] = pid
        self._poll.register(fd, select.EPOLLIN)

    def spawn_tree(self) -> int:
        """One with two children; theirs are not ours to reap, so only their deaths are known."""
        root = self.spawn(("sh", "-c", f"{' '.join(_SLEEP)} & {' '.join(_SLEEP)} & wait"))
        listed = Path(f"/proc/{root}/task/{root}/children")
        wait_until(lambda: len(listed.read_text("ascii").split()) == 2)
        children = tuple(map(int, listed.read_text("ascii").split()))
        for child in children:
            self._hold(child)
        self._trees[root] = children
        return root

    def family(self, pid: int) -> tuple[int, ...]:
        """It, and the children it was started with."""
        return (pid, *self._trees.get(pid, ()))

    def died_ns(self, pid: int) -> int | None:
        """When the kernel said that it ended, by the wall clock; None while it lives."""
        return self._died_ns.get(pid)

    def status(self, pid: int) -> int | None:
        """Its exit status, by waitpid; None while it lives."""
        return self._started[pid].poll()

    def _watch(self) -> None:
        while not self._over.is_set():
            for fd, _ in self._poll.poll(0.2):
                self._died_ns.setdefault(self._fds[fd], time.time_ns())
                self._poll.unregister(fd)


def facts_of(pid: int) -> ProcessFacts:
    """A living process's facts, as our own adapter reads them: the start time is what a detector would print."""
    handle = _PROCESSES.open(pid)
    assert handle is not None, f"{pid} is gone"
    try:
        return handle.facts
    finally:
        handle.close()


_PROCESSES: Final = one_machine.local_processes()

"""A process's threads and its children, by number.

Called by the handle, which holds the process and checks afterwards that it still lived. Threads and children that come
and go meanwhile are no error: a caller that needs a complete answer stops the process first.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.domain.targets.halting import ThreadFacts
from workers.host.processes import proc_files, procfs
from workers.host.processes.pidfd import ended

_PIDFD_THREAD: Final = os.O_EXCL
"""Linux 6.9: a pidfd of one thread, which never becomes another's."""

_GONE: Final = (FileNotFoundError, ProcessLookupError)

_LONGEST: Final = 36 << 20
"""Bytes of one list of children: what all pids there can be (4,194,304, of 7 digits and a space) take, and more."""


def threads(pid: int) -> tuple[ThreadFacts, ...]:
    """The threads of a process. Raises ``OSError`` where there is no such process or it may not be read."""
    found = []
    for number in _numbers(pid):
        with suppress(*_GONE):
            found.append(procfs.parse_thread(proc_files.contents(f"/proc/{pid}/task/{number}/status")))
    return tuple(found)


def signal_each(pid: int, descriptor: int, number: int) -> None:
    """A signal to each thread by itself, where the kernel has pidfds of threads; else to none. ``descriptor`` holds the
    process: a thread counts as its own if it is listed under the process while both of them live."""
    for thread in _numbers(pid):
        try:
            held = os.pidfd_open(thread, _PIDFD_THREAD)
        except ProcessLookupError:
            continue
        except OSError:  # EINVAL before Linux 6.9
            return
        try:
            own = Path(f"/proc/{pid}/task/{thread}").exists() and not ended(held) and not ended(descriptor)
            if own:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)


def children(pid: int) -> tuple[int, ...]:
    """The pids of a process's children, each thread's own among them; complete only while it is stopped."""
    found: list[int] = []
    for number in _numbers(pid):
        try:
            found += map(int, proc_files.contents(f"/proc/{pid}/task/{number}/children", most=_LONGEST).split())
        except _GONE:
            if Path(f"/proc/{pid}/task/{number}/status").exists():  # a kernel without CONFIG_PROC_CHILDREN
                return children_by_parent(pid)
    return tuple(found)


def children_by_parent(pid: int) -> tuple[int, ...]:
    """The same from the parent that every process names: as many reads as there are processes."""
    return tuple(other for other in _all_pids() if proc_files.parent(other) == pid)


def _numbers(pid: int) -> list[int]:
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())

"""Ties a worker to the supervisor that started it: none outlives a killed ``douse up``, and each knows its siblings.

Called by ``cli.worker`` at start, only when a supervisor started it, and by ``wiring.host``. Linux's
PR_SET_PDEATHSIG, asked for by the child itself: between fork and exec is no place for Python code in a process that
has threads.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

SUPERVISOR: Final = "DOUSE_SUPERVISOR_PID"
"""Set by ``douse up`` for the workers it starts: end when that process ends."""

_MANY_ANCESTORS: Final = 4096
_PR_SET_PDEATHSIG = 1
_WORKER = b"\0-m\0workers\0"
"""In a worker's command line as the supervisor writes it. What else it may run (the demo's target) is no sibling."""


def end_with(supervisor_pid: int) -> bool:
    """Have the kernel send SIGTERM when the supervisor ends; False when it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == supervisor_pid


def siblings() -> tuple[int, ...]:
    """The pids of the workers that the same supervisor runs, now; none where no supervisor of ours started this one."""
    supervisor = os.getppid()
    if os.environ.get(SUPERVISOR) != str(supervisor):
        return ()
    lists = Path(f"/proc/{supervisor}/task").glob("*/children")
    children = {int(pid) for path in lists for pid in _read(path).split()}
    return tuple(sorted(pid for pid in children if _WORKER in _read(Path(f"/proc/{pid}/cmdline"))))


def relatives() -> tuple[int, ...]:
    """The supervisor that started this worker, and the workers that it runs; none where none did."""
    beside = siblings()
    return (os.getppid(), *(pid for pid in beside if pid != os.getpid())) if beside else ()


def ancestors() -> list[int]:
    """This process and its ancestors, nearest first."""
    line = [os.getpid()]
    while line[-1] > 1 and len(line) < _MANY_ANCESTORS:
        parent = _parent_of(line[-1])
        if parent <= 0:
            break
        line.append(parent)
    return line


def _parent_of(pid: int) -> int:
    text = _read(Path(f"/proc/{pid}/stat"))
    return int(text.rpartition(b")")[2].split()[1]) if text else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # that thread or process has ended
        return b""

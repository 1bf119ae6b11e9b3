"""The workers that the same supervisor runs: killing the dispatcher in answer to a detection would help nobody.

Made by ``bootstrap`` where ``douse up`` started this worker; asked by ``system`` each time. A name in a file protects
nobody by itself: the kernel must say that our own supervisor is the parent, and nobody becomes its child but by being
started by it. (The supervisor is no subreaper, so that no orphan falls to it either.)
"""

import os
from pathlib import Path

from workers.adapters.processes import texts

_LONGEST_PID = 20


class Siblings:
    """Reads the supervisor's pid files."""

    def __init__(self, directory: Path) -> None:
        """``directory`` holds one ``ROLE.pid`` for each running worker."""
        self._directory = directory

    def __call__(self) -> tuple[int, ...]:
        """The pids of the workers beside this one, this one included; empty without a supervisor."""
        supervisor = os.getppid()
        if supervisor == 1:
            return ()
        named = (_pid(path) for path in sorted(self._directory.glob("*.pid")))
        return tuple(pid for pid in named if pid > 1 and texts.parent(pid) == supervisor)


def _pid(path: Path) -> int:
    """0 where the file does not hold one, or was left by somebody else."""
    try:
        if path.lstat().st_uid not in {0, os.geteuid()}:
            return 0
        text = path.read_text(encoding="ascii")[:_LONGEST_PID].strip()
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdecimal() else 0

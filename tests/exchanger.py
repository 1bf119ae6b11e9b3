"""An attacker's process that exchanges two paths as fast as it can, to race what acts on a file below one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_PROGRAM = """
import ctypes, os, sys
root, one, other = sys.argv[1:]
os.chroot(root) if root != "/" else None
os.chdir("/")
exchange = ctypes.CDLL(None).renameat2
one, other = os.fsencode(one), os.fsencode(other)
print("ready", flush=True)
while True:
    exchange(-100, one, -100, other, 2)
"""


class Exchanger:
    """Runs from its start on, except between ``pause`` and ``resume``."""

    def __init__(self, one: Path, other: Path, *, root: str = "/") -> None:
        """Under another root, the paths are what a process there calls them."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, root, one, other], stdout=subprocess.PIPE, env={"PATH": "/bin"}
        )
        self._paused = False

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def pause(self) -> None:
        """It is stopped, and no longer inside a rename."""
        if not self._paused:
            os.kill(self._process.pid, signal.SIGSTOP)
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "the exchanger has ended"
            self._paused = True

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)
        self._paused = False


def inode_of(path: Path) -> int:
    """0 where nothing has the name."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0

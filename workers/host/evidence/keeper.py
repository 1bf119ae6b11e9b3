"""The keeper: a process forked off before the worker has a thread, which forks a reader for each file to be read.

Started by wiring; asked by ``kept``. A worker with threads cannot fork safely, and a program started anew would cost
an interpreter's start and a file on a disk that somebody may have changed; the keeper has one thread, holds nothing
open but its line to the worker, and touches no filesystem. It and its readers die with the worker, however that dies.
This is the one place in Douse that forks, and nothing is executed.
"""

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workers.host.evidence.reader import read_one

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Keeper:
    """The worker's end of the line to it."""

    line: socket.socket
    pid: int

    def close(self) -> None:
        """It ends when its line does. Idempotent."""
        self.line.close()


def start_keeper() -> Keeper:
    """Only while this process has one thread. Raises ``OSError``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = _forked(lambda: _keep(theirs))
    theirs.close()
    return Keeper(ours, pid)


def _forked(work: Callable[[], None]) -> int:
    """The pid of a child that does ``work`` and ends, and that does not outlive this process."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:  # else it ended before we asked
            work()
    finally:
        os._exit(0)


def _keep(line: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a signal to the whole group is the worker's affair; it closes the line
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for readers: the kernel does away with them
    _close_others(line.fileno())
    while True:
        said, handed, _, _ = socket.recv_fds(line, 1, 1)
        if not said:
            return
        for descriptor in handed:
            channel = socket.socket(fileno=descriptor)
            with contextlib.suppress(OSError):  # no process to be had: whoever asks sees the channel close
                _forked(lambda: _read(line, channel))  # noqa: B023 - the child runs it at once
            channel.close()


def _read(line: socket.socket, channel: socket.socket) -> None:
    line.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    read_one(channel)


def _close_others(kept: int) -> None:
    """What the worker had open, but for the line and the standard streams."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone are wanted
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):
                os.close(int(name))

"""A fork server: a process forked before the worker has a thread, which forks a reader process for each file to read.

Started by wiring; used by ``isolated_reader``. A worker with threads cannot fork safely, and starting a program anew
would cost an interpreter's start and trust in a file on disk. The fork server has one thread, keeps nothing open but
its socket to the worker, and touches no filesystem. It and its readers die with the worker, however that dies. This is
the only module in Douse that forks, and nothing is executed.
"""

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workers.host.evidence.reader_process import read_one

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ForkServer:
    """The worker's end of the connection to it."""

    connection: socket.socket
    pid: int

    def close(self) -> None:
        """It ends when its connection is closed. Idempotent."""
        self.connection.close()


def start_fork_server() -> ForkServer:
    """Only while this process has one thread. Raises ``OSError``."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = _forked(lambda: _serve(far))
    far.close()
    return ForkServer(near, pid)


def _forked(work: Callable[[], None]) -> int:
    """The pid of a child that does ``work`` and ends, and that does not outlive this process."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:  # else it ended before the signal was set
            work()
    finally:
        os._exit(0)


def _serve(connection: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # a signal to the whole group is for the worker, which then closes the connection
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # readers are not waited for: the kernel reaps them
    _close_others(connection.fileno())
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not data:
            return
        for descriptor in descriptors:
            channel = socket.socket(fileno=descriptor)
            with contextlib.suppress(OSError):  # fork failed: the worker sees the channel close
                _forked(lambda: _read(connection, channel))  # noqa: B023 - the child runs it at once
            channel.close()


def _read(connection: socket.socket, channel: socket.socket) -> None:
    connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    read_one(channel)


def _close_others(own: int) -> None:
    """What the worker had open, except the connection and the standard streams."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone are wanted
        if int(name) > 2 and int(name) != own:
            with contextlib.suppress(OSError):
                os.close(int(name))

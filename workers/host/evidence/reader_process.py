"""The work of one reader process: examine one file, or read it, answer, and end.

Run by ``fork_server``. A filesystem that never answers blocks this process and nothing else.
"""

import os
import resource
import socket
import traceback
from pathlib import Path
from typing import Final

from workers.domain.errors import PermanentFailure, WorkerError
from workers.domain.pace import Pace
from workers.domain.targets.file import FileFacts
from workers.host.evidence import reader_messages
from workers.host.evidence.file_reader import DirectFileReader
from workers.host.evidence.ports import Copy
from workers.system.clock import SystemClock

_PART: Final = 1 << 16
_MEMORY: Final = 256 << 20
"""Bytes it may take beyond what it had when it was forked."""
_MOST_CPU_S: Final = 600
_SLOWEST: Final = 8 << 20
"""Bytes that any processor copies and hashes in a second: what is judged by its progress may take so long."""
_REPORT_NS: Final = 100_000_000


def read_one(channel: socket.socket) -> None:
    """Take one request from the channel and answer it. Raises ``OSError`` when the other end is closed."""
    socket.send_fds(channel, [b"+"], [os.pidfd_open(os.getpid())])
    data, descriptors, _, _ = socket.recv_fds(channel, _PART, 1)
    while part := channel.recv(_PART):
        data += part
    channel.sendall(reader_messages.answer_bytes(_answer(reader_messages.request(data), descriptors, channel)))


def _answer(
    request: reader_messages.Request, descriptors: list[int], channel: socket.socket
) -> FileFacts | Copy | WorkerError | None:
    clock = SystemClock()
    reader = DirectFileReader()
    pace = Pace(clock.now_ns, request.deadline_ns, request.pace_ns, _Reports(channel, clock))
    at_rate_s = request.limit // _SLOWEST if request.pace_ns else 0
    _limit(max(0, request.deadline_ns - clock.now_ns()) + at_rate_s * 1_000_000_000, most_s=_MOST_CPU_S + at_rate_s)
    try:
        if request.expected is None:
            return reader.examine(request.where)
        (target,) = descriptors
        return reader.copy(request.where, request.expected, target, limit=request.limit, pace=pace)
    except WorkerError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the process ends here, and a bug must be reported
        traceback.print_exc()
        return PermanentFailure(f"a bug in the reader: {type(error).__name__}", code="internal")


class _Reports:
    """Sends how many bytes are read, a few times a second."""

    def __init__(self, channel: socket.socket, clock: SystemClock) -> None:
        self._channel = channel
        self._clock = clock
        self._next_ns = 0

    def __call__(self, done: int) -> None:
        if self._clock.monotonic_ns() >= self._next_ns:
            self._next_ns = self._clock.monotonic_ns() + _REPORT_NS
            self._channel.sendall(reader_messages.progress_line(done))


def _limit(left_ns: int, *, most_s: int) -> None:
    """Limit processor time to the time that is left, and memory to some more than it has."""
    seconds = min(most_s, left_ns // 1_000_000_000 + 2)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    memory = pages * resource.getpagesize() + _MEMORY
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))

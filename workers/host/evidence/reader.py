"""One reader: a process that looks at one file, or reads it, answers, and ends.

Run by ``keeper`` in a process of its own. A filesystem that never answers holds this process and nothing else.
"""

import os
import resource
import socket
import traceback
from pathlib import Path
from typing import Final

from workers.domain.errors import PermanentFailure, WorkerError
from workers.domain.targets.file import FileFacts
from workers.host.evidence import wire
from workers.host.evidence.ports import Copy
from workers.host.evidence.reading import DirectReading
from workers.system.clock import SystemClock

_PART: Final = 1 << 16
_MEMORY: Final = 256 << 20
"""Bytes it may take beyond what it was born with."""
_MOST_CPU_S: Final = 600


def read_one(channel: socket.socket) -> None:
    """Take one question from the channel and answer it. Raises ``OSError`` when nobody is there."""
    socket.send_fds(channel, [b"+"], [os.pidfd_open(os.getpid())])
    asked, handed, _, _ = socket.recv_fds(channel, _PART, 1)
    while part := channel.recv(_PART):
        asked += part
    channel.sendall(wire.answer_bytes(_answer(wire.question(asked), handed)))


def _answer(question: wire.Question, handed: list[int]) -> FileFacts | Copy | WorkerError | None:
    clock = SystemClock()
    reading = DirectReading(clock)
    _limit(max(0, question.deadline_ns - clock.now_ns()))
    try:
        if question.expected is None:
            return reading.examine(question.where)
        (target,) = handed
        return reading.copy(
            question.where, question.expected, target, limit=question.limit, deadline_ns=question.deadline_ns
        )
    except WorkerError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the process ends here: whoever asks must hear of a bug
        traceback.print_exc()
        return PermanentFailure(f"a bug in the reader: {type(error).__name__}", code="internal")


def _limit(left_ns: int) -> None:
    """What it may use: of processor no more than it has time, of memory some more than it has."""
    seconds = min(_MOST_CPU_S, left_ns // 1_000_000_000 + 2)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    memory = pages * resource.getpagesize() + _MEMORY
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))

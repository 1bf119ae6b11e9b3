"""Files read by a process that can be abandoned: a lane waits until its deadline, and no longer.

Made by wiring on a ``fork_server``; implements ``file_reader.FileReader``. Any thread.
"""

import os
import select
import signal
import socket
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from workers.domain.errors import LimitExceeded, TransientFailure
from workers.domain.pace import Pace
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.host.evidence import reader_messages
from workers.host.evidence.file_reader import EXAMINE_NS
from workers.host.evidence.fork_server import ForkServer
from workers.host.evidence.ports import Copy
from workers.host.processes.pidfd import ended
from workers.system.ports import Clock

_PART: Final = 1 << 16
_GRACE_NS: Final = 1_000_000_000
"""For a reader that notices by itself that its time is over, to report it."""
_MOST_STUCK: Final = 8
"""Killed readers that cannot end because a filesystem blocks them; with this many, no further one is started."""


class IsolatedFileReader:
    """See ``file_reader.FileReader``."""

    def __init__(self, fork_server: ForkServer, clock: Clock) -> None:
        """The caller closes the fork server."""
        self._fork_server = fork_server
        self._clock = clock
        self._lock = Lock()
        self._killed: list[int] = []

    def examine(self, where: Location) -> FileFacts | None:
        deadline_ns = self._clock.now_ns() + EXAMINE_NS
        request = reader_messages.Request(where, deadline_ns)
        found = self._ask(request, Pace(self._clock.now_ns, deadline_ns))
        return reader_messages.facts_of(found) if found is not None else None

    def copy(self, where: Location, expected: FileIdentity, target: int, *, limit: int, pace: Pace) -> Copy | None:
        request = reader_messages.Request(where, pace.deadline_ns, expected, limit, pace.limit_ns)
        found = self._ask(request, pace, target)
        return reader_messages.copy_of(found) if found is not None else None

    def _ask(self, request: reader_messages.Request, pace: Pace, *descriptors: int) -> Mapping[str, Any] | None:
        near, far = socket.socketpair()
        with near:
            with far:
                self._pass_to_fork_server(far)
            reader = -1
            try:
                reader = self._started(near, pace)
                socket.send_fds(near, [reader_messages.request_bytes(request)], list(descriptors))
                near.shutdown(socket.SHUT_WR)
                return reader_messages.answered(self._answer(near, pace))
            except (OSError, ValueError) as error:
                raise _lost() from error
            finally:
                self._end(reader)

    def _pass_to_fork_server(self, far: socket.socket) -> None:
        with self._lock:
            self._killed = [each for each in self._killed if not _gone(each)]
            if len(self._killed) >= _MOST_STUCK:
                raise TransientFailure(
                    f"{len(self._killed)} readers are blocked by filesystems that do not answer; find them with "
                    "`mount`, and unmount them",
                    code="readers_stuck",
                )
            try:
                socket.send_fds(self._fork_server.connection, [b"+"], [far.fileno()])
            except OSError as error:
                raise TransientFailure(
                    "the process that reads files for this worker has ended; restart the worker", code="keeper_lost"
                ) from error

    def _started(self, near: socket.socket, pace: Pace) -> int:
        """The reader, held by a pidfd. Raises ``OSError`` when there is none."""
        self._wait(near, pace)
        data, descriptors, _, _ = socket.recv_fds(near, 1, 1)
        if not data or not descriptors:
            raise ConnectionError
        return descriptors[0]

    def _answer(self, near: socket.socket, pace: Pace) -> bytes:
        """What came after the last line of progress."""
        whole = b""
        while True:
            self._wait(near, pace)
            part = near.recv(_PART)
            if not part:
                return whole
            *lines, whole = (whole + part).split(b"\n")
            if lines:
                pace.moved(int(lines[-1]))

    def _wait(self, near: socket.socket, pace: Pace) -> None:
        waiting = select.poll()
        waiting.register(near, select.POLLIN)
        left_ns = _GRACE_NS - pace.late_ns
        if not waiting.poll(max(0, left_ns) / 1e6):
            raise LimitExceeded("its filesystem did not answer in time", code="timed_out")

    def _end(self, reader: int) -> None:
        """Kill it, whatever it does: its answer is no longer needed."""
        if reader < 0:
            return
        try:
            signal.pidfd_send_signal(reader, signal.SIGKILL)
        except ProcessLookupError:
            os.close(reader)
            return
        with self._lock:
            self._killed.append(reader)


def _gone(reader: int) -> bool:
    if not ended(reader):
        return False
    os.close(reader)
    return True


def _lost() -> TransientFailure:
    return TransientFailure("the process that read the file ended before it was done", code="reader_lost")

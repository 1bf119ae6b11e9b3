"""Reading by a process that can be given up: a lane waits until the time is over, and no longer.

Made by wiring over a ``keeper``; implements ``reading.Reading``. Any thread.
"""

import json
import os
import select
import signal
import socket
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

from workers.domain.errors import LimitExceeded, TransientFailure
from workers.domain.targets.file import FileFacts, FileIdentity, Location
from workers.host.evidence import wire
from workers.host.evidence.keeper import Keeper
from workers.host.evidence.ports import Copy
from workers.host.evidence.reading import LOOK_NS
from workers.host.processes.holding import ended
from workers.system.ports import Clock

_PART: Final = 1 << 16
_GRACE_NS: Final = 1_000_000_000
"""For a reader that sees by itself that its time is over, to say so."""
_MOST_STUCK: Final = 8
"""Readers that were killed and cannot end, because a filesystem holds them; with so many no further one is made."""


class KeptReading:
    """See ``reading.Reading``."""

    def __init__(self, keeper: Keeper, clock: Clock) -> None:
        """The keeper stays the caller's."""
        self._keeper = keeper
        self._clock = clock
        self._lock = Lock()
        self._killed: list[int] = []

    def examine(self, where: Location) -> FileFacts | None:
        """As the protocol says."""
        found = self._ask(wire.Question(where, self._clock.now_ns() + LOOK_NS))
        return wire.facts_of(found) if found is not None else None

    def copy(
        self, where: Location, expected: FileIdentity, target: int, *, limit: int, deadline_ns: int
    ) -> Copy | None:
        """As the protocol says."""
        found = self._ask(wire.Question(where, deadline_ns, expected, limit), target)
        return wire.copy_of(found) if found is not None else None

    def _ask(self, question: wire.Question, *handed: int) -> Mapping[str, Any] | None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            reader = -1
            try:
                reader = self._begun(ours, question.deadline_ns)
                socket.send_fds(ours, [wire.question_bytes(question)], list(handed))
                ours.shutdown(socket.SHUT_WR)
                return wire.answered(self._answer(ours, question.deadline_ns))
            except (OSError, json.JSONDecodeError) as error:
                raise _lost() from error
            finally:
                self._end(reader)

    def _hand_over(self, theirs: socket.socket) -> None:
        with self._lock:
            self._killed = [each for each in self._killed if not _gone(each)]
            if len(self._killed) >= _MOST_STUCK:
                raise TransientFailure(
                    f"{len(self._killed)} readers are held by filesystems that do not answer; see which with `mount`, "
                    "and unmount them",
                    code="readers_stuck",
                )
            try:
                socket.send_fds(self._keeper.line, [b"+"], [theirs.fileno()])
            except OSError as error:
                raise TransientFailure(
                    "the process that reads files for this worker has ended; restart the worker", code="keeper_lost"
                ) from error

    def _begun(self, ours: socket.socket, deadline_ns: int) -> int:
        """The reader, held by a pidfd. Raises ``OSError`` when there is none."""
        self._wait(ours, deadline_ns)
        said, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not said or not descriptors:
            raise ConnectionError
        return descriptors[0]

    def _answer(self, ours: socket.socket, deadline_ns: int) -> bytes:
        whole = b""
        while True:
            self._wait(ours, deadline_ns)
            part = ours.recv(_PART)
            if not part:
                return whole
            whole += part

    def _wait(self, ours: socket.socket, deadline_ns: int) -> None:
        waiting = select.poll()
        waiting.register(ours, select.POLLIN)
        left_ns = deadline_ns + _GRACE_NS - self._clock.now_ns()
        if not waiting.poll(max(0, left_ns) / 1e6):
            raise LimitExceeded("its filesystem did not answer in time", code="timed_out")

    def _end(self, reader: int) -> None:
        """Whatever it does: nobody waits for it any more."""
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

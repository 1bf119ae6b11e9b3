"""What is made or streamed rather than read from a file, onto the spool: hashed, bounded in bytes and time.

Called by ``spool``.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Final

from workers.domain.errors import LimitExceeded
from workers.host.evidence.ports import Kept
from workers.system.ports import Clock

_FULL: Final = 1 << 20
"""Bytes that are gathered before they are written."""


class Filler:
    """Writes pieces to one empty file."""

    def __init__(
        self, target: int, *, limit: int, deadline_ns: int, clock: Clock, check_capacity: Callable[[int], None]
    ) -> None:
        """Into the descriptor ``target``; ``check_capacity`` is asked before every write."""
        self._target = target
        self._limit = limit
        self._deadline_ns = deadline_ns
        self._clock = clock
        self._check_capacity = check_capacity
        self._sha256 = hashlib.sha256()
        self._waiting = bytearray()
        self._size = 0

    def fill(self, pieces: Iterable[bytes]) -> Kept:
        """All pieces up to the first that no longer fits.

        Raises:
            LimitExceeded: ``timed_out``, ``failed_enospc``.
            OSError: of writing.
        """
        whole = True
        for piece in pieces:
            if self._clock.now_ns() > self._deadline_ns:
                raise LimitExceeded("the time for gathering it is over", code="timed_out")
            if self._size + len(piece) > self._limit:
                whole = False
                break
            self._size += len(piece)
            self._waiting += piece
            if len(self._waiting) >= _FULL:
                self._write()
        self._write()
        return Kept(self._size, self._sha256.hexdigest(), whole)

    def _write(self) -> None:
        self._check_capacity(len(self._waiting))
        self._sha256.update(self._waiting)
        with memoryview(self._waiting) as waiting:
            done = 0
            while done < len(waiting):
                done += os.write(self._target, waiting[done:])
        self._waiting.clear()

"""One pass over a file: read, hashed and written, holes kept, bounded in bytes and time.

Called by ``spool`` with two descriptors. What the file had when reading began is what is copied: a file that grows
faster than it can be read comes to an end all the same. Of a size that lies (0, with content) reading goes on to the
limit.
"""

import errno
import hashlib
import os
from typing import Final

from workers.domain.errors import LimitExceeded
from workers.system.ports import Clock

CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(CHUNK)


class Copier:
    """One copy."""

    def __init__(self, target: int, *, limit: int, deadline_ns: int, clock: Clock) -> None:
        """Into the empty file ``target``."""
        self._source = -1
        self._target = target
        self._limit = limit
        self._deadline_ns = deadline_ns
        self._clock = clock
        self._sha256 = hashlib.sha256()
        self._position = 0

    def copy(self, source: int) -> tuple[int, str]:
        """Size and digest (hex) of what was there in the descriptor ``source``, holes as zeros.

        Raises:
            LimitExceeded: ``too_large``, ``timed_out``.
            OSError: of reading or writing.
        """
        self._source = source
        stated = os.fstat(source).st_size
        self._within(stated)
        end = stated or self._limit + 1
        while self._position < end:
            start = self._next_data(end)
            self._hole(min(start, end) if stated else start)
            if not self._stretch(self._end_of_data(end)):
                break
        os.ftruncate(self._target, self._position)
        return self._position, self._sha256.hexdigest()

    def _stretch(self, end: int) -> bool:
        """Copy data up to ``end``; False where the file ends before it."""
        while self._position < end:
            self._in_time()
            chunk = os.pread(self._source, min(CHUNK, end - self._position), self._position)
            if not chunk:
                return False
            self._sha256.update(chunk)
            _write_at(self._target, chunk, self._position)
            self._position += len(chunk)
            self._within(self._position)
        return True

    def _hole(self, until: int) -> None:
        self._within(until)
        while self._position < until:
            self._in_time()
            length = min(CHUNK, until - self._position)
            self._sha256.update(_ZEROS if length == CHUNK else _ZEROS[:length])
            self._position += length

    def _next_data(self, end: int) -> int:
        """Where the next data is; the position itself where the kernel cannot tell, ``end`` where it says none."""
        try:
            return os.lseek(self._source, self._position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        size = os.fstat(self._source).st_size
        return min(size, end) if size > self._position else self._position

    def _end_of_data(self, end: int) -> int:
        try:
            return min(end, os.lseek(self._source, self._position, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            raise

    def _within(self, size: int) -> None:
        if size > self._limit:
            raise LimitExceeded(
                f"the file has at least {size} bytes; this node takes at most {self._limit} "
                "(file_acquire.max_file_size_mb)",
                code="too_large",
            )

    def _in_time(self) -> None:
        if self._clock.now_ns() > self._deadline_ns:
            raise LimitExceeded("the time for this file is over", code="timed_out")


def looks(found: os.stat_result) -> tuple[int, int, int]:
    """What tells that a file was written to."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _write_at(target: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(target, rest, offset)
        rest, offset = rest[written:], offset + written

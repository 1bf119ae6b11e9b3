"""Content into one empty file of the spool: hashed, bounded in bytes and time; holes of a file stay holes.

``Copier`` is called by ``file_reader`` with two descriptors. It copies what the file had when reading began, so that a
file which grows faster than it can be read comes to an end all the same; where the size is wrong (0, with content) it
reads on to the limit. ``write_stream`` is called by ``spool`` with what does not come from a file.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Final

from workers.domain.errors import LimitExceeded
from workers.domain.pace import Pace
from workers.host.evidence.ports import Kept

CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(CHUNK)
_BUFFER: Final = 1 << 20
"""Bytes that are collected before they are written."""


class Copier:
    """One copy."""

    def __init__(self, target: int, *, limit: int, pace: Pace) -> None:
        """Into the empty file ``target``."""
        self._source = -1
        self._target = target
        self._limit = limit
        self._pace = pace
        self._moved = 0
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
        self._check_size(stated)
        end = stated or self._limit + 1
        while self._position < end:
            start = self._next_data(end)
            self._hash_hole(min(start, end) if stated else start)
            if not self._copy_data(self._end_of_data(end)):
                break
        os.ftruncate(self._target, self._position)
        return self._position, self._sha256.hexdigest()

    def _copy_data(self, end: int) -> bool:
        """Copy data up to ``end``; False where the file ends before it."""
        while self._position < end:
            self._check_pace()
            chunk = os.pread(self._source, min(CHUNK, end - self._position), self._position)
            if not chunk:
                return False
            self._sha256.update(chunk)
            _write_at(self._target, chunk, self._position)
            self._position += len(chunk)
            self._check_size(self._position)
        return True

    def _hash_hole(self, until: int) -> None:
        self._check_size(until)
        while self._position < until:
            self._check_pace()
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

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise LimitExceeded(
                f"the file has at least {size} bytes; this node takes at most {self._limit} "
                "(file_acquire.max_file_size_mb)",
                code="too_large",
            )

    def _check_pace(self) -> None:
        if self._position - self._moved >= CHUNK:
            self._moved = self._position
            self._pace.moved(self._position)
        self._pace.check()


def fingerprint(found: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is written to."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _write_at(target: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(target, rest, offset)
        rest, offset = rest[written:], offset + written


def write_stream(
    target: int,
    pieces: Iterable[bytes],
    *,
    limit: int,
    pace: Pace,
    check_capacity: Callable[[int], None],
) -> Kept:
    """All pieces up to the first that no longer fits; ``check_capacity`` is called before every write.

    Raises:
        LimitExceeded: ``timed_out``, ``failed_enospc``.
        OSError: of writing.
    """
    digest, buffer, size, whole = hashlib.sha256(), bytearray(), 0, True

    def flush() -> None:
        check_capacity(len(buffer))
        digest.update(buffer)
        with memoryview(buffer) as data:
            done = 0
            while done < len(data):
                done += os.write(target, data[done:])
        buffer.clear()

    for piece in pieces:
        pace.check()
        if size + len(piece) > limit:
            whole = False
            break
        size += len(piece)
        buffer += piece
        pace.moved(size)
        if len(buffer) >= _BUFFER:
            flush()
    flush()
    return Kept(size, digest.hexdigest(), whole)

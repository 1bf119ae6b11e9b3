"""A file's content into a compressed object, and out of it again: bounded, hashed on the way, holes kept.

Called by ``quarantine_handle`` and ``restore_handle``. The hash is over the logical bytes, holes as zeros; the object
holds the extents of data alone, one after the other, as one zstd frame. The deadline is checked between chunks, so that
no file occupies a worker longer.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Final

import zstandard

from workers.domain.errors import LimitExceeded, PermanentFailure
from workers.domain.targets.file import Extent
from workers.domain.targets.manifest import Manifest
from workers.host.files.ports import Copied
from workers.system.ports import Clock

CHUNK: Final = 1 << 20
LEVEL: Final = 1
"""zstd-1: 336 MB/s on executables where zstd-3 does 212 (measured); a vault wants speed."""
MAX_EXTENTS: Final = 4096
"""A manifest stays small: from here on holes are kept as the zeros that they are."""

_ZEROS: Final = bytes(CHUNK)


class Compressor:
    """One pass over a file."""

    def __init__(self, part: int, *, limit: int, deadline_ns: int, clock: Clock, check: Callable[[int], None]) -> None:
        """Writes to the descriptor ``part``; ``check`` gets the object's size before each write and raises where it
        may not grow that far."""
        self._part = part
        self._limit = limit
        self._deadline_ns = deadline_ns
        self._clock = clock
        self._check = check
        self._content = hashlib.sha256()
        self._compressed = hashlib.sha256()
        self._frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._extents: list[Extent] = []
        self._position = 0
        self._object_size = 0

    def compress(self, source: int) -> Copied:
        """Copy everything there is to read, to the end of the file as it is when that is reached.

        Raises:
            LimitExceeded: ``too_large`` at the first byte beyond the limit, ``timed_out``, what ``check`` raises.
            OSError: of reading or writing.
        """
        before = os.fstat(source)
        if before.st_size > self._limit:
            raise self._too_large(before.st_size)
        end = 0
        while (start := self._next_data(source, end)) is not None:
            self._hash_hole(start)
            end = self._copy_extent(source, start)
        self._hash_hole(os.fstat(source).st_size)
        self._write(self._frame.flush())
        return Copied(
            size=self._position,
            sha256=self._content.hexdigest(),
            object_size=self._object_size,
            object_sha256=self._compressed.hexdigest(),
            extents=tuple(self._extents),
            steady=fingerprint(before) == fingerprint(os.fstat(source)),
        )

    def _next_data(self, source: int, position: int) -> int | None:
        try:
            return os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        # No data that the kernel knows of. A size that lies (0, with content) shows in reading on.
        size = os.fstat(source).st_size
        at = max(position, size)
        return at if os.pread(source, 1, at) else None

    def _copy_extent(self, source: int, start: int) -> int:
        """Copy the data from ``start`` to its end; where that is."""
        end = self._end_of_data(source, start)
        at = start
        while end is None or at < end:
            check_deadline(self._clock, self._deadline_ns)
            chunk = os.pread(source, CHUNK if end is None else min(CHUNK, end - at), at)
            if not chunk:
                break
            at += len(chunk)
            if at > self._limit:
                raise self._too_large(at)
            self._content.update(chunk)
            self._write(self._frame.compress(chunk))
        if at > start:
            self._add_extent(start, at - start)
        self._position = max(self._position, at)
        return at

    def _end_of_data(self, source: int, start: int) -> int | None:
        """Where the next hole begins; None to read on to the end of the file."""
        if len(self._extents) >= MAX_EXTENTS:
            return None
        try:
            return os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise

    def _add_extent(self, offset: int, length: int) -> None:
        last = self._extents[-1] if self._extents else None
        if last is not None and last.offset + last.length == offset:
            self._extents[-1] = Extent(last.offset, last.length + length)
        else:
            self._extents.append(Extent(offset, length))

    def _hash_hole(self, until: int) -> None:
        if until > self._limit:
            raise self._too_large(until)
        for zeros in _zeros(until - self._position):
            check_deadline(self._clock, self._deadline_ns)
            self._content.update(zeros)
        self._position = max(self._position, until)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._compressed.update(data)
        self._object_size += len(data)
        self._check(self._object_size)
        write_all(self._part, data)

    def _too_large(self, size: int) -> LimitExceeded:
        return LimitExceeded(
            f"the file has at least {size} bytes; this node takes at most {self._limit} "
            "(file_quarantine.max_file_size_mb)",
            code="too_large",
        )


class _Hashed:
    """Reads a descriptor from its start and hashes what is read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = os.pread(self._descriptor, size, self._position)
        self._position += len(data)
        self.sha256.update(data)
        return data


def decompress(
    source: int,
    manifest: Manifest,
    *,
    clock: Clock,
    deadline_ns: int,
    write: Callable[[int, bytes], object] = lambda _offset, _data: None,
) -> None:
    """Decompress an object, pass every piece of data to ``write`` with its offset, and compare both hashes with the
    manifest's.

    Raises:
        PermanentFailure: ``object_damaged``. What was written until then is worthless.
        LimitExceeded: ``timed_out``.
        OSError: of reading or writing.
    """
    raw = _Hashed(source)
    plain = hashlib.sha256()
    position = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(raw, read_size=CHUNK) as reader:  # type: ignore[arg-type]
            for extent in manifest.extents:
                for zeros in _zeros(extent.offset - position):
                    plain.update(zeros)
                position, end = extent.offset, extent.offset + extent.length
                while position < end:
                    check_deadline(clock, deadline_ns)
                    data = reader.read(min(CHUNK, end - position))
                    if not data:
                        raise _damaged("it ends too early")
                    plain.update(data)
                    write(position, data)
                    position += len(data)
            if reader.read(1):
                raise _damaged("it holds more than it should")
    except zstandard.ZstdError as error:
        raise _damaged(str(error)) from error
    while raw.read(CHUNK):
        pass
    for zeros in _zeros(manifest.size - position):
        plain.update(zeros)
    if (plain.hexdigest(), raw.sha256.hexdigest()) != (manifest.sha256, manifest.object_sha256):
        raise _damaged("its SHA-256 is not the one in the manifest")


def fingerprint(found: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is written to."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def check_deadline(clock: Clock, deadline_ns: int) -> None:
    """Raises ``LimitExceeded`` (``timed_out``) once the deadline is over."""
    if clock.now_ns() > deadline_ns:
        raise LimitExceeded("the time for this file is over", code="timed_out")


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it. Raises ``OSError``."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS if count >= CHUNK else _ZEROS[:count]
        count -= CHUNK


def _damaged(why: str) -> PermanentFailure:
    return PermanentFailure(f"the object in the vault is damaged: {why}", code="object_damaged")

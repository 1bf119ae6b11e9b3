"""A log file as a CRI runtime writes it, to the lines of the port ``Containers``. Pure.

Called by ``log_files``. A line is ``<time> <stdout|stderr> <F|P> <text>``, where P is a part of a line that its next
one goes on with. Only its runtime writes these: a newline of the container's own begins the next line, so it can forge
none. What is no such line is never handed out, because the file may then be another than it is said to be.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_LINE: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP])(?::[!-~]{0,99})? "
)
_LONGEST: Final = 1 << 20
"""A longer line is handed out in parts. By default containerd cuts at 16 KiB, but can be told never to."""
_BLOCK: Final = 1 << 16
_NONE: Final = "no line of a CRI log"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def lines(chunks: Iterable[bytes], *, since_ns: int, farthest: int) -> Iterator[bytes]:
    """The lines that ended, from the first one on; none from before ``since_ns``. One that has no end yet is left out,
    but for parts of it beyond any reasonable length.

    Raises:
        ValueError: there is one that no CRI runtime writes.
        EOFError: ``farthest`` bytes were passed over in vain.
    """
    waiting, vain = b"", 0
    for chunk in chunks:
        *ended, waiting = (waiting + chunk).split(b"\n")
        vain += len(chunk)
        for line in ended:
            told = _head(line)
            if _wanted(told, since_ns):
                vain = 0
                yield b"%b %b %b\n" % (_start(told), told[5], line[told.end() :])
        if len(waiting) > _LONGEST:
            told = _head(waiting)
            if _wanted(told, since_ns):
                vain = 0
                yield b"%b P %b\n" % (_start(told), waiting[told.end() :])
            waiting = told[0]  # what follows goes on with the same line
        if vain > farthest:
            raise EOFError


def tail_start(read: Callable[[int, int], bytes], end: int, *, tail: int, farthest: int) -> tuple[int, int]:
    """Where the last ``tail`` lines before the offset ``end`` begin, and how many there are, if fewer. Reads backwards,
    and no more than it must; ``read`` takes an offset and a size.

    Raises:
        EOFError: that many begin more than ``farthest`` bytes before the end.
    """
    at, seen = end, 0
    while at > 0:
        if end - at > farthest:
            raise EOFError
        size = min(_BLOCK, at)
        at -= size
        block = read(at, size)
        here = block.count(b"\n")
        if seen + here > tail:
            cut = len(block)
            for _ in range(tail + 1 - seen):
                cut = block.rindex(b"\n", 0, cut)
            return at + cut + 1, tail
        seen += here
    return 0, seen


def _head(line: bytes) -> re.Match[bytes]:
    told = _LINE.match(line)
    if told is None:
        raise ValueError(_NONE)
    return told


def _start(told: re.Match[bytes]) -> bytes:
    """Its time and stream, as they stand there."""
    return told[0][: told.end(4)]


def _wanted(told: re.Match[bytes], since_ns: int) -> bool:
    """Raises ``ValueError``: there is no such time."""
    time_ns = _second(told[1], told[3]) * 1_000_000_000 + int((told[2] or b"0").ljust(9, b"0"))
    return not since_ns or time_ns >= since_ns


@lru_cache(maxsize=64)
def _second(written: bytes, zone: bytes) -> int:
    """Seconds since the epoch. Raises ``ValueError``."""
    try:
        told = datetime.fromisoformat((written + zone.replace(b"Z", b"+00:00")).decode("ascii"))
    except ValueError:
        raise ValueError(_NONE) from None
    since = told - _EPOCH
    return since.days * 86_400 + since.seconds

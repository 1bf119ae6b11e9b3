"""A log file as a CRI runtime writes it, to the lines of the port ``Containers``. Pure.

Called by ``log_files``. A line is ``<time> <stdout|stderr> <F|P> <text>``, where P is a part of a line that the next
one continues. Only its runtime writes these: a newline of the container's own begins the next line, so it can forge
none. Any other line is never returned, because the file may then be another than its runtime named.
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
"""A longer line is returned in parts. By default containerd cuts at 16 KiB, but can be configured never to."""
_BLOCK: Final = 1 << 16
_NONE: Final = "no line of a CRI log"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def lines(chunks: Iterable[bytes], *, since_ns: int, farthest: int) -> Iterator[bytes]:
    """The lines that ended, from the first one on; none from before ``since_ns``. One that has no end yet is left out,
    but for parts of it beyond any reasonable length.

    Raises:
        ValueError: there is one that no CRI runtime writes.
        EOFError: ``farthest`` bytes were skipped without a line to return.
    """
    waiting, skipped = b"", 0
    for chunk in chunks:
        *ended, waiting = (waiting + chunk).split(b"\n")
        skipped += len(chunk)
        for line in ended:
            head = _head(line)
            if _wanted(head, since_ns):
                skipped = 0
                yield b"%b %b %b\n" % (_start(head), head[5], line[head.end() :])
        if len(waiting) > _LONGEST:
            head = _head(waiting)
            if _wanted(head, since_ns):
                skipped = 0
                yield b"%b P %b\n" % (_start(head), waiting[head.end() :])
            waiting = head[0]  # what follows goes on with the same line
        if skipped > farthest:
            raise EOFError


def tail_start(read: Callable[[int, int], bytes], end: int, *, tail: int, farthest: int) -> tuple[int, int]:
    """Where the last ``tail`` lines before the offset ``end`` begin, and how many there are, if fewer. Reads backwards,
    and no more than it must; ``read`` takes an offset and a size.

    Raises:
        EOFError: that many begin more than ``farthest`` bytes before the end.
    """
    position, counted = end, 0
    while position > 0:
        if end - position > farthest:
            raise EOFError
        size = min(_BLOCK, position)
        position -= size
        block = read(position, size)
        here = block.count(b"\n")
        if counted + here > tail:
            cut = len(block)
            for _ in range(tail + 1 - counted):
                cut = block.rindex(b"\n", 0, cut)
            return position + cut + 1, tail
        counted += here
    return 0, counted


def _head(line: bytes) -> re.Match[bytes]:
    head = _LINE.match(line)
    if head is None:
        raise ValueError(_NONE)
    return head


def _start(head: re.Match[bytes]) -> bytes:
    """Its time and stream, as they stand there."""
    return head[0][: head.end(4)]


def _wanted(head: re.Match[bytes], since_ns: int) -> bool:
    """Raises ``ValueError``: there is no such time."""
    time_ns = _second(head[1], head[3]) * 1_000_000_000 + int((head[2] or b"0").ljust(9, b"0"))
    return not since_ns or time_ns >= since_ns


@lru_cache(maxsize=64)
def _second(written: bytes, zone: bytes) -> int:
    """Seconds since the epoch. Raises ``ValueError``."""
    try:
        head = datetime.fromisoformat((written + zone.replace(b"Z", b"+00:00")).decode("ascii"))
    except ValueError:
        raise ValueError(_NONE) from None
    since = head - _EPOCH
    return since.days * 86_400 + since.seconds

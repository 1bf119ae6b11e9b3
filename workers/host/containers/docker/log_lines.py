"""An engine's stream of a container's log to lines that keep time, stream, and whether the line ended.

Called by ``engine``. Pure. A line is ``<time> <stdout|stderr> <F|P> <text>``, as containers' runtimes under Kubernetes
write them to disk: P is a part of a line that the next one continues. What the container wrote stays as it was, byte
for byte; it cannot forge a line of this form, because a newline of its own begins the next one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from workers.domain.errors import PermanentFailure

_HEADER: Final = 8
"""One byte for the stream, three of nothing, four of length, most significant first."""
_STREAMS: Final = {0: b"stdout", 1: b"stdout", 2: b"stderr"}
_LONGEST: Final = 16 << 20
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\S{6,40} ")
_UNTIMED: Final = b"-"
"""Where its runtime gave no time."""


def framed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Of a container without a terminal: frames of either stream.

    Raises:
        PermanentFailure: they are no frames (``logs_unreadable``).
    """
    waiting = b""
    for chunk in chunks:
        waiting = waiting + chunk if waiting else chunk
        at = 0
        while len(waiting) - at >= _HEADER:
            stream, zeros = waiting[at], waiting[at + 1 : at + 4]
            length = int.from_bytes(waiting[at + 4 : at + _HEADER], "big")
            if stream not in _STREAMS or zeros != b"\0\0\0" or length > _LONGEST:
                raise PermanentFailure("its runtime's log stream is not understood", code="logs_unreadable")
            if len(waiting) - at - _HEADER < length:
                break
            at += _HEADER
            yield from _lines(waiting[at : at + length], _STREAMS[stream])
            at += length
        waiting = waiting[at:]


def raw(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Of a container with a terminal: one stream, and nothing but newlines between its lines."""
    waiting = b""
    for chunk in chunks:
        whole, newline, rest = (waiting + chunk).rpartition(b"\n")
        if newline:
            yield from _lines(whole + newline, b"stdout")
        waiting = rest
        if len(waiting) > _LONGEST:
            yield from _lines(waiting, b"stdout")
            waiting = b""
    yield from _lines(waiting, b"stdout")


def _lines(text: bytes, stream: bytes) -> Iterator[bytes]:
    time = _UNTIMED
    for line in _split(text):
        timed = _TIME.match(line)
        content = line
        if timed is not None:
            time, content = timed[0][:-1], line[timed.end() :]
        ended = content.endswith(b"\n")
        yield b"%b %b %b %b\n" % (time, stream, b"F" if ended else b"P", content[:-1] if ended else content)


def _split(text: bytes) -> Iterator[bytes]:
    """At newlines alone: a carriage return is a character like any other."""
    *whole, rest = text.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if rest:
        yield rest

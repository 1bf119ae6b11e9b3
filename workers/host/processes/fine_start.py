"""A process's start to some microseconds, where the kernel tells: /proc has a grain of a hundredth of a second.

Called by ``system`` for every process it opens. Two processes that held one pid within a tick look alike in /proc; the
kernel's accounting (taskstats over generic netlink) has the elapsed time in microseconds. It answers only CAP_NET_ADMIN
in the first network namespace, so every failure here means "no finer than a tick" and nothing else.
"""

import os
import socket
import struct
import weakref
from threading import Lock
from typing import Final

from workers.host.processes.boot import boottime_ns

_GENERIC: Final = 16  # NETLINK_GENERIC
_CONTROLLER: Final = 16  # GENL_ID_CTRL
_GET_FAMILY: Final = 3
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2
_GET_STATS: Final = 1
_ASK_PID: Final = 1
_STATS_OF_PID: Final = 4
_STATS: Final = 3
_PID_AT: Final = 128  # ac_pid in struct taskstats; the offsets have not moved since its first version
_ELAPSED_AT: Final = 144  # ac_etime, microseconds
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = 2  # NLMSG_ERROR
_TIMEOUT_S: Final = 1.0
_ANSWER_BYTES: Final = 8192
_ASKS: Final = 16
"""Most processes are told by the first. On a busy machine four in a row were interrupted for one detection in 400, and
a process that was 20 ms old when it was seen was then refused as ``identity_unclear``."""
_FINE_ENOUGH_NS: Final = 100_000
"""An answer that was interrupted between the clocks is wider: ask again, and take what all the answers share."""


class FineStart:
    """Asks the kernel's accounting; remembers when it may not."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asking: socket.socket | None = None
        self._family = 0
        try:
            self._asking = _netlink()
            weakref.finalize(self, self._asking.close)
            self._family = _family(self._asking)
        except OSError:
            self._family = 0
        if not self._family or self._elapsed(os.getpid()) is None:
            self._forget()

    def since_boot_ns(self, pid: int, *, not_before_ns: int, tick_ns: int) -> tuple[int, int] | None:
        """The start as (nanoseconds since boot, how much later it may be), inside the tick that /proc tells.

        The elapsed time stops while the machine is suspended, boot time does not: an answer outside the tick is of a
        process that has lived through a suspension, and is dropped.
        """
        low, high = not_before_ns, not_before_ns + tick_ns
        for _ in range(_ASKS):
            asked = self._elapsed(pid)
            if asked is None:
                return None
            before, elapsed, after = asked
            low = max(low, before - elapsed - 1_000)  # the kernel cuts to a microsecond
            high = min(high, after - elapsed)
            if low > high:
                return None
            if high - low <= _FINE_ENOUGH_NS:
                break
        return low, high - low

    def _elapsed(self, pid: int) -> tuple[int, int, int] | None:
        """Boot time before asking, elapsed nanoseconds, boot time after; None where there is no answer."""
        with self._lock:
            if self._asking is None:
                return None
            question = _message(self._family, _GET_STATS, _ASK_PID, struct.pack("=I", pid))
            try:
                before = boottime_ns()
                self._asking.send(question)
                answer = self._asking.recv(_ANSWER_BYTES)
                after = boottime_ns()
            except OSError:  # a late answer would be taken for the next one's
                self._forget()
                return None
        stats = _attributes(_attributes(_body(answer)).get(_STATS_OF_PID, b"")).get(_STATS, b"")
        if len(stats) < _ELAPSED_AT + 8 or struct.unpack_from("=I", stats, _PID_AT)[0] != pid:
            return None
        return before, struct.unpack_from("=Q", stats, _ELAPSED_AT)[0] * 1_000, after

    def _forget(self) -> None:
        if self._asking is not None:
            self._asking.close()
        self._asking = None


def _family(asking: socket.socket) -> int:
    """The number of taskstats; 0 where there is none."""
    asking.send(_message(_CONTROLLER, _GET_FAMILY, _FAMILY_NAME, b"TASKSTATS\0"))
    found = _attributes(_body(asking.recv(_ANSWER_BYTES))).get(_FAMILY_ID, b"")
    return int(struct.unpack_from("=H", found)[0]) if len(found) >= 2 else 0


def _netlink() -> socket.socket:
    asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC)
    asking.settimeout(_TIMEOUT_S)
    return asking


def _message(kind: int, command: int, attribute: int, value: bytes) -> bytes:
    padded = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + value + bytes(-len(value) % 4)
    return _HEADER.pack(_HEADER.size + 4 + len(padded), kind, 1, 1, 0) + struct.pack("=BBH", command, 1, 0) + padded


def _body(answer: bytes) -> bytes:
    """What stands behind the two headers; empty for an error."""
    if len(answer) < _HEADER.size + 4 or _HEADER.unpack_from(answer)[1] == _ERROR:
        return b""
    return answer[_HEADER.size + 4 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found

"""A process's start to some microseconds, where the kernel shows it: /proc has a grain of a hundredth of a second.

Called by ``facts_reader`` for every process that is opened. Two processes that had one pid within a tick look alike in
/proc; the kernel's accounting (taskstats over generic netlink) has the elapsed time in microseconds. It answers only
CAP_NET_ADMIN in the first network namespace, so every failure here means "no finer than a tick" and nothing else.
"""

import os
import socket
import struct
import weakref
from threading import Lock
from typing import Final

from workers.host import netlink
from workers.host.processes.boot import boottime_ns

_CONTROLLER: Final = 16
"""GENL_ID_CTRL, which knows the numbers of all generic families."""
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2
_GET_STATS, _PID, _PID_WITH_STATS, _STATS = 1, 1, 4, 3
_GENERIC_HEADER: Final = struct.Struct("=BBH")
_PID_OFFSET: Final = 128
"""Of ac_pid in struct taskstats; the offsets have not moved since its first version."""
_ELAPSED_OFFSET: Final = 144
"""Of ac_etime, microseconds."""
_TIMEOUT_S: Final = 1.0
_ATTEMPTS: Final = 16
"""The first is enough for most processes. On a busy machine four in a row were interrupted for one detection in 400,
and a process that was 20 ms old when it was detected was then refused as ``identity_unclear``."""
_FINE_ENOUGH_NS: Final = 100_000
"""An answer that was interrupted between the clocks is wider: ask again, and take what all answers have in common."""


class FineStart:
    """Asks the kernel's accounting; remembers where it may not."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._netlink: socket.socket | None = None
        self._family = 0
        try:
            self._netlink = netlink.open_socket(netlink.GENERIC, timeout_s=_TIMEOUT_S)
            weakref.finalize(self, self._netlink.close)
            self._family = _family(self._netlink)
        except OSError:
            self._family = 0
        if not self._family or self._elapsed(os.getpid()) is None:
            self._forget()

    def since_boot_ns(self, pid: int, *, not_before_ns: int, tick_ns: int) -> tuple[int, int] | None:
        """The start as (nanoseconds since boot, how much later it may be), inside the tick that /proc shows.

        The elapsed time stops while the machine is suspended, boot time does not: an answer outside the tick is of a
        process that has lived through a suspension, and is dropped.
        """
        low, high = not_before_ns, not_before_ns + tick_ns
        for _ in range(_ATTEMPTS):
            answer = self._elapsed(pid)
            if answer is None:
                return None
            before, elapsed, after = answer
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
            if self._netlink is None:
                return None
            request = _request(self._family, _GET_STATS, netlink.attribute(_PID, struct.pack("=I", pid)))
            try:
                before = boottime_ns()
                self._netlink.send(request)
                answer = netlink.answer(self._netlink)
                after = boottime_ns()
            except OSError:  # a late answer would be taken for the next one's
                self._forget()
                return None
        stats = _found(_STATS, _found(_PID_WITH_STATS, answer[_GENERIC_HEADER.size :]))
        if len(stats) < _ELAPSED_OFFSET + 8 or struct.unpack_from("=I", stats, _PID_OFFSET)[0] != pid:
            return None
        return before, struct.unpack_from("=Q", stats, _ELAPSED_OFFSET)[0] * 1_000, after

    def _forget(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
        self._netlink = None


def _family(made: socket.socket) -> int:
    """The number of taskstats; 0 where there is none."""
    made.send(_request(_CONTROLLER, _GET_FAMILY, netlink.attribute(_FAMILY_NAME, b"TASKSTATS\0")))
    found = _found(_FAMILY_ID, netlink.answer(made)[_GENERIC_HEADER.size :])
    return int(struct.unpack_from("=H", found)[0]) if len(found) >= 2 else 0


def _request(family: int, command: int, attributes: bytes) -> bytes:
    return netlink.request(family, _GENERIC_HEADER.pack(command, 1, 0) + attributes)


def _found(kind: int, data: bytes) -> bytes:
    return next((value for found, value in netlink.attributes(data) if found == kind), b"")

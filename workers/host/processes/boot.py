"""This boot: its id, when it began on the wall clock, and the grain of start times.

Called by ``system``. Boot time is CLOCK_REALTIME minus CLOCK_BOOTTIME, both in nanoseconds; ``btime`` in /proc/stat is
the same difference cut to a second. What a set clock does to it: see ``domain.targets.process_identity``.
"""

import os
import time
from pathlib import Path
from typing import Final

_JITTER_NS: Final = 50_000
"""Two readings differ by microseconds for want of an atomic one: less than this is no step, start times stay put."""
_READINGS: Final = 5


class Boot:
    """Reads the clocks whenever asked, so that a step is seen at once."""

    def __init__(self) -> None:
        self.id: Final = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self.tick_ns: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        self._time_ns = _boot_time_ns()

    def time_ns(self) -> int:
        """When this boot began, nanoseconds since the epoch, right to some microseconds."""
        now = _boot_time_ns()
        if abs(now - self._time_ns) > _JITTER_NS:
            self._time_ns = now
        return self._time_ns


def boottime_ns() -> int:
    """Nanoseconds since boot, suspended time included: what start times are counted in."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _boot_time_ns() -> int:
    """The best of some readings: the one that was interrupted least between its clocks."""
    return min(_reading() for _ in range(_READINGS))[1]


def _reading() -> tuple[int, int]:
    before = boottime_ns()
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = boottime_ns()
    return after - before, wall - (before + after) // 2

"""The machine's own clocks.

Made by wiring, used by every worker through the port ``Clock``. Decides nothing.
"""

import time


class SystemClock:
    """Wall clock, monotonic clock and sleep of this machine."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Blocks."""
        time.sleep(seconds)

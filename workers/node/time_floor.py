"""What time it is at least: the clock that deadlines are held against.

Made by wiring with the journal's floor; asked by every step. A wall clock can be turned back, and then a command
that expired would live again. So the node also knows a moment that has passed for certain (the newest issue time
inside a verified signature, or the journal's floor at start) and how long ago, by the monotonic clock, it knew it. The
later of the two clocks holds. Only the certain one is ever persisted: a wall clock that jumps to 2099 for a minute
expires commands for a minute, not for ever. Broker timestamps are unsigned and have no say at all.
"""

from workers.system.ports import Clock


class TimeFloor:
    """Wall clock and certain past, whichever is later. Any thread may ask; only intake teaches."""

    def __init__(self, clock: Clock, floor_ns: int) -> None:
        """``floor_ns`` is what the journal last held, nanoseconds since the epoch."""
        self._clock = clock
        self._known = (floor_ns, clock.monotonic_ns())

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, never before the floor."""
        return max(self._clock.now_ns(), self.floor_ns())

    def floor_ns(self) -> int:
        """A moment that has passed for certain; what the journal keeps."""
        moment_ns, known_at_ns = self._known
        return moment_ns + self._clock.monotonic_ns() - known_at_ns

    def learn(self, issued_at_ns: int) -> None:
        """A verified signature says that this moment has passed."""
        if issued_at_ns > self.floor_ns():
            self._known = (issued_at_ns, self._clock.monotonic_ns())

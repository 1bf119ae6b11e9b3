"""A clock that moves only when told to; sleeping moves it."""

from __future__ import annotations

START_NS = 1_900_000_000_000_000_000
"""A moment in 2030: far from any real clock, so that a leak of real time shows."""


class FakeClock:
    """Both clocks, settable. Sleeping advances instead of waiting."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 0
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        step = round(seconds * 1_000_000_000)
        self._now_ns += step
        self._monotonic_ns += step

    def set(self, now_ns: int) -> None:
        """Turn the wall clock, forward or back; the monotonic one does not notice."""
        self._now_ns = now_ns

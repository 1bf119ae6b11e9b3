"""Trying again without waiting: the clock moves instead, by the same second each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.fakes.clock import FakeClock
from workers.domain.errors import TransientFailure

T = TypeVar("T")


class FakeRetrying:
    """The port `Retrying`."""

    def __init__(self, clock: FakeClock, *, pause_s: float = 1.0) -> None:
        self._clock = clock
        self._pause_s = pause_s

    def run(self, attempt: Callable[[int], T], *, first: int, deadline_ns: int) -> T:
        number = first
        while True:
            try:
                return attempt(number)
            except TransientFailure:
                if self._clock.now_ns() + round(self._pause_s * 1e9) > deadline_ns:
                    raise
            self._clock.sleep(self._pause_s)
            number += 1

"""The pace of a run: a fixed deadline, or one that every step forward moves."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from workers.domain.errors import LimitExceeded
from workers.domain.pace import Pace

SECOND = 1_000_000_000


def test_a_fixed_deadline_is_not_moved_by_progress() -> None:
    clock = FakeClock()
    pace = Pace(clock.now_ns, clock.now_ns() + 2 * SECOND)
    clock.advance(2)
    pace.moved()
    pace.check()
    clock.advance(0.001)
    with pytest.raises(LimitExceeded) as caught:
        pace.check()
    assert caught.value.reason == "timed_out"


def test_what_makes_progress_has_its_whole_time_again() -> None:
    clock = FakeClock()
    pace = Pace(clock.now_ns, clock.now_ns() + 2 * SECOND, 2 * SECOND)
    for _ in range(100):
        clock.advance(2)
        pace.check()
        pace.moved()
    assert pace.late_ns == -2 * SECOND
    clock.advance(2.001)
    with pytest.raises(LimitExceeded, match="no progress for 2 s"):
        pace.check()


def test_counted_progress_is_reported() -> None:
    clock, reported = FakeClock(), list[int]()
    pace = Pace(clock.now_ns, clock.now_ns(), SECOND, reported.append)
    pace.moved(5)
    pace.moved()
    assert reported == [5]

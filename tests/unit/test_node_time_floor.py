"""The clock that deadlines are held against."""

from __future__ import annotations

from tests.fakes.clock import START_NS, FakeClock
from workers.domain.admission import MOST_AHEAD_NS
from workers.node.live_state import TimeFloor

DAY = 86_400 * 1_000_000_000


def test_without_anything_known_it_is_the_wall_clock() -> None:
    clock = FakeClock()
    assert TimeFloor(clock, 0).now_ns() == START_NS


def test_a_wall_clock_turned_back_does_not_turn_time_back() -> None:
    clock = FakeClock()
    time = TimeFloor(clock, 0)
    time.learn(START_NS)
    clock.set(START_NS - DAY)
    clock.advance(5)
    assert time.now_ns() == START_NS + 5_000_000_000


def test_a_wall_clock_that_jumps_ahead_counts_while_it_lasts_and_is_never_kept() -> None:
    clock = FakeClock()
    time = TimeFloor(clock, 0)
    time.learn(START_NS)
    clock.set(START_NS + 1000 * DAY)
    assert time.now_ns() == START_NS + 1000 * DAY
    assert time.floor_ns() == START_NS
    clock.set(START_NS + 1)
    assert time.now_ns() == START_NS + 1


def test_an_older_signature_teaches_nothing() -> None:
    time = TimeFloor(FakeClock(), 0)
    time.learn(START_NS + 50)
    time.learn(START_NS + 10)
    assert time.floor_ns() == START_NS + 50


def test_the_journals_floor_holds_after_a_restart() -> None:
    clock = FakeClock(START_NS - DAY)
    assert TimeFloor(clock, START_NS).now_ns() == START_NS


def test_nobodys_word_moves_the_floor_further_ahead_than_clocks_may_differ() -> None:
    time = TimeFloor(FakeClock(), 0)
    time.learn(START_NS + DAY)
    time.learn(START_NS + MOST_AHEAD_NS + 1)
    assert (time.now_ns(), time.ahead_ns) == (START_NS, 0)
    time.learn(START_NS + MOST_AHEAD_NS)
    assert (time.floor_ns(), time.ahead_ns) == (START_NS + MOST_AHEAD_NS, 0)


def test_a_floor_that_is_ahead_of_the_clock_shows() -> None:
    assert TimeFloor(FakeClock(), START_NS + DAY).ahead_ns == DAY

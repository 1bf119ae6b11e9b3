"""Trying again, asked of the fake and of the doorway to tenacity alike."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.retrying import FakeRetrying
from workers.domain.errors import Indeterminate, PermanentFailure, TransientFailure
from workers.system.ports import Retrying
from workers.system.retrying import TenacityRetrying

FAR_S = 3600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["fake", "tenacity"])
def retrying(request: pytest.FixtureRequest, clock: FakeClock) -> Retrying:
    return FakeRetrying(clock) if request.param == "fake" else TenacityRetrying(clock)


def deadline(clock: FakeClock, seconds: float) -> int:
    return clock.now_ns() + round(seconds * 1e9)


def test_a_success_is_returned_and_not_repeated(retrying: Retrying, clock: FakeClock) -> None:
    numbers = retrying.run(lambda number: [number], first=1, deadline_ns=deadline(clock, FAR_S))
    assert numbers == [1]
    assert clock.slept == []


def test_attempts_count_on_from_the_first(retrying: Retrying, clock: FakeClock) -> None:
    seen: list[int] = []

    def attempt(number: int) -> str:
        seen.append(number)
        if number < 7:
            raise TransientFailure
        return "done"

    assert retrying.run(attempt, first=4, deadline_ns=deadline(clock, FAR_S)) == "done"
    assert seen == [4, 5, 6, 7]


@pytest.mark.parametrize("error", [PermanentFailure(), Indeterminate(), ValueError(), KeyboardInterrupt()])
def test_nothing_but_a_transient_failure_is_tried_again(
    retrying: Retrying, clock: FakeClock, error: BaseException
) -> None:
    seen: list[int] = []

    def attempt(number: int) -> None:
        seen.append(number)
        raise error

    with pytest.raises(type(error)) as raised:
        retrying.run(attempt, first=1, deadline_ns=deadline(clock, FAR_S))
    assert raised.value is error
    assert seen == [1]


def test_the_deadline_is_never_slept_past_and_the_last_failure_comes_through(
    retrying: Retrying, clock: FakeClock
) -> None:
    end_ns = deadline(clock, 10)
    failures: list[TransientFailure] = []

    def attempt(number: int) -> None:
        failures.append(TransientFailure(f"attempt {number}"))
        raise failures[-1]

    with pytest.raises(TransientFailure) as raised:
        retrying.run(attempt, first=1, deadline_ns=end_ns)
    assert raised.value is failures[-1]
    assert clock.now_ns() <= end_ns
    assert len(failures) > 1


def test_a_deadline_that_has_passed_leaves_one_attempt(retrying: Retrying, clock: FakeClock) -> None:
    seen: list[int] = []

    def attempt(number: int) -> None:
        seen.append(number)
        raise TransientFailure

    with pytest.raises(TransientFailure):
        retrying.run(attempt, first=1, deadline_ns=clock.now_ns() - 1)
    assert seen == [1]


def test_tenacity_waits_as_long_as_the_other_side_asked_and_never_longer_than_its_bound() -> None:
    clock = FakeClock()

    def attempt(number: int) -> str:
        if number == 1:
            raise TransientFailure(retry_after_s=42)
        if number < 20:
            raise TransientFailure
        return "done"

    TenacityRetrying(clock).run(attempt, first=1, deadline_ns=deadline(clock, FAR_S))
    assert clock.slept[0] == 42
    assert all(0 <= pause <= 10 for pause in clock.slept[1:])
    assert len(set(clock.slept[1:])) > 10, "jitter"

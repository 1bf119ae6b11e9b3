"""The runner of all workers: starts in order, backs off without giving up, stops at once, always closes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.fakes.telemetry import FakeTelemetry
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.service import Service


class StopWhen:
    """Stops once something holds; remembers how long each wait was."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._asked = 0
        self.waits: list[float] = []

    def is_set(self) -> bool:
        self._asked += 1
        assert self._asked < 1000, "never stopped"
        return self._holds()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self._holds()


class Worker:
    """Writes down what was called; each entry of `failures` makes one call of that name fail."""

    def __init__(self, **failures: list[Exception]) -> None:
        self.calls: list[str] = []
        self.telemetry = FakeTelemetry()
        self._failures = failures

    def call(self, name: str) -> Callable[[], None]:
        def made() -> None:
            self.calls.append(name)
            if self._failures.get(name):
                raise self._failures[name].pop(0)

        return made

    def run(self, stop: StopWhen, service: Service | None = None) -> None:
        (service or Service(self.telemetry)).run(
            stop,
            start=(self.call("first"), self.call("second")),
            step=self.call("step"),
            drain=self.call("drain"),
            close=self.call("close"),
        )


def away(count: int = 1) -> list[Exception]:
    return [TransientFailure("away", code="log_away") for _ in range(count)]


def test_starts_in_order_repeats_the_step_drains_and_closes() -> None:
    worker = Worker()
    worker.run(StopWhen(lambda: worker.calls.count("step") == 2))
    assert worker.calls == ["first", "second", "step", "step", "drain", "close"]


def test_a_start_that_fails_is_tried_again_before_the_next_begins() -> None:
    worker = Worker(first=away(2))
    worker.run(StopWhen(lambda: "step" in worker.calls))
    assert worker.calls == ["first", "first", "first", "second", "step", "drain", "close"]


def test_a_stop_before_the_start_is_complete_still_drains_and_closes() -> None:
    worker = Worker(first=away())
    worker.run(StopWhen(lambda: "first" in worker.calls))
    assert worker.calls == ["first", "drain", "close"]


def test_a_step_that_fails_is_tried_again_with_growing_bounded_pauses() -> None:
    worker = Worker(step=away(12))
    stop = StopWhen(lambda: worker.calls.count("step") == 14)
    worker.run(stop)
    assert stop.waits[0] == pytest.approx(0.1)
    assert stop.waits == sorted(stop.waits)
    assert stop.waits[-1] == 5.0
    assert len(stop.waits) == 12


def test_a_worker_may_bound_its_pauses_more_tightly() -> None:
    worker = Worker(step=away(12))
    stop = StopWhen(lambda: worker.calls.count("step") == 13)
    worker.run(stop, Service(worker.telemetry, longest_pause_s=0.5))
    assert max(stop.waits) == 0.5


def test_a_pause_is_at_least_what_the_other_side_asked_for() -> None:
    worker = Worker(step=[TransientFailure("busy", retry_after_s=30)])
    stop = StopWhen(lambda: worker.calls.count("step") == 2)
    worker.run(stop)
    assert stop.waits == [30]


def test_a_success_resets_the_pause() -> None:
    worker = Worker()
    failing = iter([True, True, False, True, False])
    waits: list[float] = []
    stop = StopWhen(lambda: len(waits) == 5)

    def step() -> None:
        waits.append(0.0)
        if next(failing):
            raise TransientFailure("away")

    Service(worker.telemetry).run(stop, start=(), step=step, drain=lambda: None, close=lambda: None)
    assert stop.waits == pytest.approx([0.1, 0.2, 0.1])


def test_the_pause_that_a_step_asks_for_is_kept() -> None:
    stop = StopWhen(lambda: len(stop.waits) == 2)
    Service(FakeTelemetry()).run(stop, start=(), step=lambda: 7.0, drain=lambda: None, close=lambda: None)
    assert stop.waits == [7.0, 7.0]


def test_failures_in_a_row_are_logged_once_for_each_reason() -> None:
    worker = Worker(step=[*away(3), TransientFailure("full", code="outbox_full")])
    worker.run(StopWhen(lambda: worker.calls.count("step") == 5))
    assert worker.telemetry.events("warning") == ["step_failed", "step_failed"]


@pytest.mark.parametrize("name", ["first", "step", "drain"])
def test_any_other_failure_comes_through_and_everything_is_closed(name: str) -> None:
    failures: dict[str, list[Exception]] = {name: [PermanentFailure("gone", code="history_io")]}
    worker = Worker(**failures)
    with pytest.raises(PermanentFailure):
        worker.run(StopWhen(lambda: "step" in worker.calls))
    assert worker.calls[-1] == "close"


def test_without_a_step_it_waits_for_the_stop() -> None:
    stop = StopWhen(lambda: bool(stop.waits))
    Service(FakeTelemetry()).run(stop, start=(), step=None, drain=lambda: None, close=lambda: None)
    assert stop.waits == [0.0]


def test_a_thread_goes_on_after_a_bug_and_ends_at_the_stop() -> None:
    telemetry, stop, done = FakeTelemetry(), threading.Event(), threading.Event()
    failures = iter([ValueError("secret text")])

    def step() -> None:
        for failure in failures:
            raise failure
        done.set()

    thread = Service(telemetry, retry_on=(Exception,)).start_thread("node-feed", step, stop)
    assert done.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert telemetry.events("error") == ["step_failed"]
    assert "secret text" not in str(vars(telemetry))

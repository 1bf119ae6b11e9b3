"""At most one effect per target incarnation, where it is hardest: the pid is given to an innocent process at once.

The kernel is told which pid comes next, so the innocent one is born within the tick in which the named one died. No
descriptor is held before: all that reaches the action is the Falco JSON.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from tests.detections import Order, falco_json, target_in, this_machine
from tests.victims import Victims, state_of, victims
from workers.actions.base import AnyAction
from workers.actions.kill_process import KillProcess
from workers.actions.suspend_process import SuspendProcess
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome
from workers.host.ports import Host

TRIALS = 200


@dataclass(slots=True)
class Tally:
    """What became of the innocents."""

    innocents_killed: int = 0
    innocents_stopped: int = 0
    same_tick: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"innocents killed {self.innocents_killed}, stopped {self.innocents_stopped} of "
            f"{sum(self.answers.values())}, born within the tick of the "
            f"dead one's birth {self.same_tick}, answers {dict(self.answers)}"
        )


@pytest.fixture
def started(require: Callable[..., None]) -> Iterator[Victims]:
    require("root", "only root may choose the next pid (ns_last_pid)")
    with victims() as made:
        yield made


def _birth(host: Host, pid: int) -> tuple[int, int, int]:
    """Earliest and latest moment of birth in nanoseconds, and its tick."""
    handle = host.processes.open(pid)
    assert handle is not None
    facts = handle.facts
    handle.close()
    return facts.started_at_ns, facts.started_at_ns + facts.start_grain_ns, facts.start_ticks


def _trials(host: Host, started: Victims, reported: str, action: AnyAction | None = None) -> Tally:
    """As many as are asked for; a pid that somebody else on this machine took meanwhile is no trial."""
    detector, tally = this_machine(), Tally()
    for _ in range(3 * TRIALS):
        if sum(tally.answers.values()) == TRIALS:
            return tally
        _trial(host, detector, started, tally, reported, action or KillProcess())
    raise AssertionError(f"others took the pids too often: {tally}")


def _trial(host: Host, detector: Host, started: Victims, tally: Tally, reported: str, action: AnyAction) -> None:
    """The detector knows births exactly, whatever the worker knows."""
    named = started.spawn()
    _, born_ns, tick = _birth(detector, named)
    cut_ns = host.processes.boot_time_ns() + tick * host.processes.tick_ns()
    alert = falco_json(named, start_ns={"nothing": None, "exactly": born_ns, "to a tick": cut_ns}[reported])
    started.end(named)
    if not started.reuse(named):
        return
    tally.same_tick += _birth(host, named)[2] == tick
    try:
        report = Order(host, target_in(alert), action=action).run()
        answer = report.outcome.value
    except CommandRejected as refusal:
        answer = refusal.reason
    tally.answers[answer] += 1
    tally.innocents_killed += not started.alive(named)
    tally.innocents_stopped += state_of(named) == "T"
    started.end(named)


@pytest.mark.fault("F20")
@pytest.mark.parametrize("reported", ["nothing", "exactly", "to a tick"])
def test_no_innocent_dies_however_much_the_alert_tells_of_the_start(
    started: Victims, reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = _trials(this_machine(), started, reported)
    with capsys.disabled():
        print(f"\npid reuse, start told {reported}: {tally}")
    assert tally.innocents_killed == 0
    assert tally.answers[Outcome.COMPLETED.value] == 0
    assert tally.same_tick > 0, "no trial was as hard as it is meant to be"


def test_no_innocent_is_stopped_in_place_of_the_one_that_was_meant(
    started: Victims, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = _trials(this_machine(), started, "nothing", SuspendProcess())
    with capsys.disabled():
        print(f"\npid reuse, suspend_process: {tally}")
    assert (tally.innocents_killed, tally.innocents_stopped) == (0, 0)
    assert tally.answers[Outcome.COMPLETED.value] == 0
    assert tally.same_tick > 0, "no trial was as hard as it is meant to be"


def test_without_a_finer_clock_no_innocent_dies_of_an_alert_that_names_a_pid_alone(
    started: Victims, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = _trials(this_machine(fine_start=False), started, "nothing")
    with capsys.disabled():
        print(f"\npid reuse, start told nothing, ticks only: {tally}")
    assert tally.innocents_killed == 0


def test_what_pid_and_start_time_without_a_descriptor_do_to_innocents(
    started: Victims, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baseline: psutil compares start times in ticks, and then signals the pid."""
    killed = tried = 0
    for _ in range(3 * TRIALS):
        named = started.spawn()
        process = psutil.Process(named)
        started.end(named)
        if tried == TRIALS or not started.reuse(named):
            continue
        tried += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        if started.dead_within(named, 0.05):
            killed += 1
        else:
            started.end(named)
    with capsys.disabled():
        print(f"\npid reuse, psutil.Process.kill: innocents killed {killed} of {tried}")
    assert killed > 0, "the trap does not work: reuse fell into other ticks"

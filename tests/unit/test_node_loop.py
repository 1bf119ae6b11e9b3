"""The threads: they meet in the lanes and the journal, a stop drains them, a hung thread holds up no other work.

Real threads on fake ports; every wait ends as soon as what it waits for is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.node import NodeBench
from tests.guarantees.node import ContainmentNeverWaitsForGathering, check_all
from workers.actions.base import Lane
from workers.domain.errors import LimitExceeded
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState
from workers.domain.outcome import Outcome
from workers.node.janitor import Janitor
from workers.node.lanes import Lanes, Task
from workers.node.leftovers import Leftovers
from workers.node.loop import CommitSignal, LaneSignals, Loop, Steps


class FakeRelay:
    """Moves the bench's outbox; one thread uses it."""

    def __init__(self, bench: NodeBench) -> None:
        self._bench = bench

    def step(self, timeout_s: float = 0.0) -> int:
        return self._bench.relay()

    def drain(self, timeout_s: float) -> int:
        while self._bench.relay():
            pass
        return len(self._bench.journal.outbox())


@dataclass
class Running:
    """A loop in its thread."""

    bench: NodeBench
    stop: threading.Event
    thread: threading.Thread
    closed: list[str]

    def until(self, ready: Callable[[], Any]) -> None:
        end = time.monotonic() + 10
        while not ready():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.002)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def outcome(self, command: Any) -> Outcome | None:
        ends = [r.outcome for r in self.bench.results(command.command_id) if r.outcome]
        return ends[-1] if ends else None


@contextmanager
def running(bench: NodeBench, *, drain_s: float = 5.0) -> Iterator[Running]:
    assert bench.lane_signals is not None
    steps = Steps(
        services=bench.services,
        transitions=bench.transitions,
        recovery=bench.recovery,
        feed=bench.feed,
        runner=bench.runner,
        deadline_watch=bench.watch,
        effect_watch=bench.effect_watch,
        heartbeat=bench.heartbeat,
        janitor=Janitor(bench.services),
        leftovers=Leftovers(bench.services, bench.transitions),
        lanes=bench.lanes,
        lane_signals=bench.lane_signals,
        relays=[FakeRelay(bench)],
        commit_signal=CommitSignal(),
        heartbeat_s=0.05,
        drain_s=drain_s,
    )
    stop, closed = threading.Event(), []
    loop = Loop(steps, close=lambda: closed.append("closed"))
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    made = Running(bench, stop, thread, closed)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def bench() -> NodeBench:
    return NodeBench(lane_signals=LaneSignals(), waits=True)


def test_commands_run_heartbeats_are_sent_and_a_stop_is_announced(bench: NodeBench) -> None:
    commands = []
    for number in range(1, 30):
        bench.world.spawn(number)
        commands.append(bench.command(number=number))
    with running(bench) as node:
        for command in commands:
            bench.send(command)
        node.until(lambda: all(node.outcome(command) for command in commands))
    assert node.closed == ["closed"]
    assert bench.heartbeats()[-1].health == "stopping"
    assert [a.kind for a in bench.audit() if a.kind in ("started", "stopped")] == ["started", "stopped"]
    check_all(bench.observation())


def test_hung_gathering_holds_up_no_containment(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    for number in range(1, 20):
        bench.world.spawn(number)
    copying = bench.services.catalogue["scripted_copy"]
    execute = copying.execute

    def hang(*args: Any) -> Any:
        let_go.wait(10)
        return execute(*args)

    monkeypatch.setattr(copying, "execute", hang)
    copies = [bench.command("scripted_copy", number) for number in range(1, 6)]
    kills = [bench.command("scripted_kill", number) for number in range(10, 20)]
    with running(bench) as node:
        for copy in copies:
            bench.send(copy)
        node.until(lambda: bench.lanes.running == 2)
        for kill in kills:
            bench.send(kill)
        node.until(lambda: all(node.outcome(kill) for kill in kills))
        stuck = frozenset(copy.command_id for copy in copies)
        ContainmentNeverWaitsForGathering().check(bench.observation(gathering_stuck=2, stuck=stuck))
        let_go.set()
        node.until(lambda: all(node.outcome(copy) for copy in copies))
    check_all(bench.observation())


def test_a_stop_does_not_wait_for_a_hung_action_and_leaves_its_command_claimed(bench: NodeBench) -> None:
    let_go = threading.Event()
    bench.world.spawn(1)

    def hang(place: str) -> None:
        if place == "before":
            let_go.wait(10)

    bench.world.during = hang
    command = bench.command()
    with running(bench, drain_s=0.2) as node:
        bench.send(command)
        node.until(lambda: bench.watch.running)
        started = time.monotonic()
        node.end()
        assert time.monotonic() - started < 5
        assert node.closed == [], "nothing is closed that a running thread still uses"
        assert bench.state_of(command) is EntryState.CLAIMED
        let_go.set()
        node.until(lambda: not bench.watch.running)


def test_a_full_disk_at_the_start_is_waited_for(bench: NodeBench) -> None:
    bench.world.spawn(1)
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    command = bench.command()
    bench.send(command)
    with running(bench) as node:
        node.until(lambda: bench.services.health.status == "journal")
        bench.journal.break_with(None)
        bench.clock.advance(5)
        node.until(lambda: node.outcome(command))
    check_all(bench.observation())


def test_a_stop_during_a_start_that_cannot_succeed_ends_it(bench: NodeBench) -> None:
    bench.journal.break_with(LimitExceeded("full", code="journal_full"))
    with running(bench) as node:
        node.until(lambda: bench.services.health.status == "journal")
    assert node.closed == ["closed"]
    assert bench.world.touched == 0


def test_a_step_that_fails_with_a_bug_is_logged_and_the_thread_goes_on(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.world.spawn(1)
    polls = iter([ValueError("bug"), ValueError("bug")])
    poll = bench.reader.poll

    def failing_first(*args: Any, **more: Any) -> Any:
        for error in polls:
            raise error
        return poll(*args, **more)

    monkeypatch.setattr(bench.reader, "poll", failing_first)
    command = bench.command()
    bench.send(command)
    with running(bench) as node:
        node.until(lambda: node.outcome(command))
    assert "step_failed" in bench.telemetry.events("error")


def shared_lanes(signals: LaneSignals) -> Lanes:
    return Lanes(10, lock=signals.lock, wake=signals.wake)


def test_waiting_for_a_command_ends_when_one_comes() -> None:
    signals = LaneSignals()
    lanes = shared_lanes(signals)
    assert signals.next(lanes, Lane.CONTAINMENT, 0.0, lambda: 0) is None
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(signals.next(lanes, Lane.CONTAINMENT, 10, lambda: 0)))
    thread.start()
    bench = NodeBench()
    task = bench.gate.task(bench.command())
    lanes.push([task])
    thread.join(5)
    assert got == [task]


def test_waiting_for_a_command_ends_when_one_falls_due() -> None:
    signals, now_ns = LaneSignals(), 0
    lanes = shared_lanes(signals)
    task = Task(ExecutionId("x"), Lane.CONTAINMENT, "key", due_ns=1_000_000)

    def monotonic_ns() -> int:
        nonlocal now_ns
        now_ns += 400_000
        return now_ns

    lanes.push([task])
    assert signals.next(lanes, Lane.CONTAINMENT, 60, monotonic_ns) is task


def test_one_push_wakes_as_many_threads_as_it_has_work_for() -> None:
    signals = LaneSignals()
    lanes = shared_lanes(signals)
    got: list[Task | None] = []
    threads = [
        threading.Thread(target=lambda: got.append(signals.next(lanes, Lane.CONTAINMENT, 60, lambda: 0)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wanted = [Task(ExecutionId(f"x{n}"), Lane.CONTAINMENT, f"key-{n}") for n in range(4)]
    lanes.push(wanted)
    for thread in threads:
        thread.join(50)  # less than a thread would wait by itself
    assert sorted(task.execution_id for task in got if task) == [task.execution_id for task in wanted]

"""How long a kill takes: from the claim to a confirmed death, against the least that it could be.

Run by ``make bench``. The baseline is what no careful killer can do without: hold the process by a pidfd, make the
intent durable (one fsync), signal, and wait for the kernel's word. Both run in turns, in one process.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import pytest

from tests.detections import Kill, falco_json, target_in, this_machine
from tests.victims import Victims, victims
from workers.core.outcome import Outcome

ROUNDS = 200
SETTLE_S = 0.03
"""Older than the event's clock error in ticks, so that both worlds (with and without a finer clock) decide."""


@pytest.fixture
def started() -> Iterator[Victims]:
    with victims() as made:
        yield made


@dataclass(slots=True)
class Times:
    """Milliseconds of one step, over all rounds."""

    name: str
    taken: list[float] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        before = time.perf_counter_ns()
        yield
        self.taken.append((time.perf_counter_ns() - before) / 1e6)

    @property
    def median(self) -> float:
        return statistics.median(self.taken)

    def __str__(self) -> str:
        ordered = sorted(self.taken)
        p99 = ordered[len(ordered) * 99 // 100]
        return f"{self.name:<46} p50 {self.median:6.2f} ms   p99 {p99:6.2f} ms   (n={len(ordered)})"


def test_claim_to_confirmed_death_against_pidfd_and_fsync(started: Victims, tmp_path: Path) -> None:
    host = this_machine()
    bare, whole = Times("bare: pidfd, fsync, signal, confirmed"), Times("kill_process: bind, fsync, execute, confirmed")
    bind, durable, execute = (
        Times("  of it bind"),
        Times("  of it fsync"),
        Times("  of it execute (signal to confirmed)"),
    )
    with (tmp_path / "intent").open("ab", buffering=0) as intent:
        for _ in range(ROUNDS):
            pid = started.spawn()
            time.sleep(SETTLE_S)
            with bare.one():
                _bare(pid, intent)
            pid = started.spawn()
            time.sleep(SETTLE_S)
            kill = Kill(host, target_in(falco_json(pid)))
            with whole.one():
                with bind.one():
                    claim = kill.bind()
                with durable.one():
                    _make_durable(repr(dict(claim)).encode(), intent)
                with execute.one():
                    report = kill.execute()
            assert report.outcome is Outcome.COMPLETED
    print("", bare, whole, bind, durable, execute, f"ratio of medians: {whole.median / bare.median:.2f}", sep="\n")


def test_holding_and_describing_a_process(started: Victims) -> None:
    pid = started.spawn()
    print()
    for fine in (True, False):
        processes = this_machine(fine_start=fine).processes
        times = Times(f"open with facts, start {'fine' if fine else 'in ticks'}")
        for _ in range(5 * ROUNDS):
            with times.one():
                handle = processes.open(pid)
                assert handle is not None
                handle.close()
        print(times)


def _bare(pid: int, intent: FileIO) -> None:
    held = os.pidfd_open(pid)
    _make_durable(b"kill", intent)
    signal.pidfd_send_signal(held, signal.SIGKILL)
    os.waitid(os.P_PIDFD, held, os.WEXITED | os.WNOWAIT)
    os.close(held)


def _make_durable(what: bytes, intent: FileIO) -> None:
    intent.write(what)
    os.fsync(intent.fileno())

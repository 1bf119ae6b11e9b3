"""What is asked of every system that is compared: take a command to one of two nodes, do nothing, record the result.

Used by test_full_loop.py; `through_kafka.py` and `through_redis.py` have the systems. All of them are up in one test,
and all but the one that is measured are stopped (SIGSTOP), so that nobody pays for an idle neighbour.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from tests.bench.board import percentile

NODES = 2
SETTLED_S = 0.4
"""What waits before stopped nodes has all come when its number stays the same for so long."""
GIVE_UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One command, made before the clock starts."""

    key: str
    node: int
    body: bytes


class Contestant(ABC):
    """One system: its processes, and a client that asks and sees what was recorded."""

    name: str

    def __init__(self) -> None:
        self.dispatcher: list[subprocess.Popen[bytes]] = []
        self.nodes: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def prepare(self, count: int) -> Sequence[Ask]:
        """That many commands, to both nodes in turn."""

    @abstractmethod
    def ask(self, ask: Ask) -> None:
        """Hand one over, without waiting for anybody."""

    @abstractmethod
    def recorded(self, timeout_s: float) -> Sequence[str]:
        """Keys of commands whose results were recorded since; waits up to `timeout_s` for the first."""

    @abstractmethod
    def lying(self) -> int:
        """How many commands ever went to the nodes' queues, or lie there now."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let its processes run for the length of a block, and warm it up."""
        self.signal([*self.dispatcher, *self.nodes], signal.SIGCONT)
        try:
            answered(self, self.prepare(50))
            yield
        finally:
            self.signal([*self.dispatcher, *self.nodes], signal.SIGSTOP)

    def signal(self, processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
        """To processes that must be alive."""
        for process in processes:
            assert process.poll() is None, f"{self.name}: {process.args!r} ended with {process.returncode}"
            os.kill(process.pid, number)


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one system: rates a second, latencies in milliseconds."""

    burst: float
    one_p50: float
    one_p99: float
    steady_p50: float
    steady_p99: float
    drain: float


def measure(system: Contestant, *, burst: int, ones: int, rate: int, steady_s: float) -> Figures:
    """One round."""
    with system.running():
        asked = system.prepare(burst)
        began = time.monotonic()
        answered(system, asked)
        burst_s = time.monotonic() - began
        one = [answered(system, [ask])[0] for ask in system.prepare(ones)]
        even = steady(system, rate=rate, seconds=steady_s)
        drain_s = drained(system, burst)
    at = (percentile(one, 0.5), percentile(one, 0.99), percentile(even, 0.5), percentile(even, 0.99))
    return Figures(burst / burst_s, *at, burst / drain_s)


def answered(system: Contestant, asks: Sequence[Ask]) -> list[float]:
    """Ask all at once; the milliseconds until each was recorded, in the order of their recording."""
    open_: dict[str, float] = {}
    for ask in asks:
        open_[ask.key] = time.monotonic()
        system.ask(ask)
    return _await(system, open_)


def steady(system: Contestant, *, rate: int, seconds: float) -> list[float]:
    """Ask so many a second; the milliseconds until each was recorded, counted from when it was due."""
    asks = system.prepare(int(rate * seconds))
    open_: dict[str, float] = {}
    taken: list[float] = []
    began = time.monotonic()
    for number, ask in enumerate(asks):
        due = began + number / rate
        while (left := due - time.monotonic()) > 0:
            taken += _take(system, open_, left)
        open_[ask.key] = due
        system.ask(ask)
    return taken + _await(system, open_)


def drained(system: Contestant, count: int) -> float:
    """Seconds that the nodes take for commands that lay before them."""
    system.signal(system.nodes, signal.SIGSTOP)
    before, open_ = system.lying(), {}
    for ask in system.prepare(count):
        open_[ask.key] = time.monotonic()
        system.ask(ask)
    seen, since = before, time.monotonic()
    give_up = since + GIVE_UP_S
    while seen < before + count * 0.9 or time.monotonic() - since < SETTLED_S:
        assert time.monotonic() < give_up, f"{system.name}: {seen - before} of {count} lie before the nodes"
        now = system.lying()
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)
    system.recorded(0)
    system.signal(system.nodes, signal.SIGCONT)
    began = time.monotonic()
    _await(system, open_)
    return time.monotonic() - began


def of(figures: Sequence[Figures], name: str) -> list[float]:
    """One figure of all rounds."""
    return [getattr(each, name) for each in figures]


def medians(figures: Sequence[Figures]) -> Figures:
    """Each figure's median over the rounds."""
    return Figures(*(median(of(figures, name)) for name in Figures.__slots__))


def _await(system: Contestant, open_: dict[str, float]) -> list[float]:
    taken: list[float] = []
    give_up = time.monotonic() + GIVE_UP_S
    while open_:
        assert time.monotonic() < give_up, f"{system.name}: {len(open_)} commands have no result"
        taken += _take(system, open_, 0.5)
    return taken


def _take(system: Contestant, open_: dict[str, float], timeout_s: float) -> list[float]:
    keys = system.recorded(timeout_s)
    now = time.monotonic()
    return [(now - open_.pop(key)) * 1e3 for key in keys if key in open_]

"""The node's threads, its start and its drain.

Made by ``wiring.node``, run by the command line; the only module of the node that knows threads and waiting. One thread
reads the log, eight contain, two gather, one relays, one sends heartbeats, one watches deadlines and one watches
effects. They meet in the lanes (under ``LaneSignals.lock``) and in the journal. A start recovers before it reads
anything new; a stop ends intake first, lets running actions finish within the drain's time, leaves the rest CLAIMED for
the next start to probe, publishes, and sends a last heartbeat.

The way of a command: ``feed`` → ``intake`` → ``lanes`` → ``runner`` → ``attempts`` → ``transitions``.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from workers.actions.base import Lane
from workers.domain.errors import JournalUnavailable, LimitExceeded, PermanentFailure
from workers.log.ports import Relay
from workers.node.deadline_watch import DeadlineWatch
from workers.node.effect_watch import EffectWatch
from workers.node.feed import Feed
from workers.node.heartbeat import Heartbeat
from workers.node.janitor import Janitor
from workers.node.lanes import THREADS, Lanes, Task
from workers.node.leftovers import Leftovers
from workers.node.recovery import Recovery
from workers.node.runner import Runner
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.service import Service
from workers.system.ports import StopSignal

_POLL_S: Final = 0.25
"""Longest wait for a record or a command: how late a stop is noticed."""
_RELAY_S: Final = 0.1
"""Between two checks for acknowledgements; a commit wakes the relay, so no record waits for this."""
_DEADLINES_S: Final = 0.5
_TIDY_S: Final = 60.0
_PUBLISH_S: Final = 2.0
"""Reserved from the drain's time for the outbox and the last heartbeat."""
_BUG_S: Final = 60.0
"""A command whose step failed because of a bug is tried again after this: no busy loop, and no command is forgotten."""


class LaneSignals:
    """The lock that all threads hold around the lanes, and waiting for a command.

    A push wakes one thread of the lane, and a thread that took a command wakes the next when there is more to take:
    waking all ten each time took half of a busy node's time.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = {lane: threading.Condition(self.lock) for lane in Lane}

    def wake(self, lane: Lane) -> None:
        """There may be something to take. Called with the lock held."""
        self._changed[lane].notify()

    def next(self, lanes: Lanes, lane: Lane, timeout_s: float, now_ns: Callable[[], int]) -> Task | None:
        """The next command of a lane; waits up to ``timeout_s`` for one to come or to fall due. ``now_ns`` is the
        monotonic clock."""
        with self.lock:
            task = lanes.take(lane, now_ns())
            if task is None:
                due_ns = lanes.next_due_ns(lane)
                wait_s = timeout_s if due_ns is None else min(timeout_s, max(0.0, (due_ns - now_ns()) / 1e9))
                self._changed[lane].wait(wait_s)
                task = lanes.take(lane, now_ns())
            if task is not None and lanes.more(lane):
                self.wake(lane)
            return task


class CommitSignal:
    """Set by every commit; the relay sleeps until then."""

    def __init__(self) -> None:
        self._committed = threading.Event()

    def set(self) -> None:
        """There may be something to send."""
        self._committed.set()

    def wait(self, timeout_s: float) -> None:
        """Blocks until a commit, or until the time is over."""
        self._committed.wait(timeout_s)
        self._committed.clear()


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything that the threads call."""

    services: Services
    transitions: Transitions
    recovery: Recovery
    feed: Feed
    runner: Runner
    deadline_watch: DeadlineWatch
    effect_watch: EffectWatch
    heartbeat: Heartbeat
    janitor: Janitor
    leftovers: Leftovers
    lanes: Lanes
    lane_signals: LaneSignals
    relays: Sequence[Relay]
    """The journal's outbox first, then the heartbeats'."""
    commit_signal: CommitSignal
    heartbeat_s: float
    drain_s: float
    """At most for a drain, in seconds."""


class Loop:
    """Implements ``Runnable``."""

    def __init__(self, steps: Steps, *, close: Callable[[], None] = lambda: None) -> None:
        """``close`` closes what wiring opened; called last, and only when no thread is left inside an action."""
        self._steps = steps
        self._clock, self._telemetry = steps.services.clock, steps.services.telemetry
        self._close = close
        self._drained = threading.Event()
        self._working: Sequence[threading.Thread] = ()
        self._serving: Sequence[threading.Thread] = ()
        self._tidy_ns = 0

    def run(self, stop: StopSignal) -> None:
        """Recover, work until ``stop``, drain. Blocks."""
        starter = Service(self._telemetry, retry_on=(JournalUnavailable,))
        start = (self._recover, partial(self._start_threads, stop))
        starter.run(stop, start=start, step=None, drain=self._drain, close=self._close_when_idle)

    # --- start and end -----------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Count the crashes and queue what is unfinished; nothing may run until that is durable."""
        try:
            self._audit("started")
            self._steps.lanes.push(self._steps.recovery.start())
        except JournalUnavailable:
            self._steps.heartbeat.step()
            self._relay_all(lambda relay: relay.step())
            raise

    def _start_threads(self, stop: StopSignal) -> None:
        # A thread that ended would leave a worker that only looks alive: every failure is logged and tried again.
        service = Service(self._telemetry, retry_on=(Exception,))
        self._serving = [
            service.start_thread("node-relay", self._relay, self._drained),
            service.start_thread("node-heartbeat", self._send_heartbeat, self._drained),
            service.start_thread("node-deadlines", self._watch_deadlines, self._drained),
        ]
        self._working = [
            service.start_thread("node-feed", lambda: self._steps.feed.step(_POLL_S), stop),
            service.start_thread("node-effects", self._watch_effects, stop),
            *(
                service.start_thread(f"node-{lane}-{number}", partial(self._run_command, lane), stop)
                for lane, count in THREADS.items()
                for number in range(count)
            ),
        ]

    def _drain(self) -> None:
        if not self._working:
            return
        health = self._steps.services.health
        health.ending("draining")
        end_ns = self._clock.monotonic_ns() + round(self._steps.drain_s * 1e9)

        def left_s(reserved_s: float = 0.0) -> float:
            return max(0.0, (end_ns - self._clock.monotonic_ns()) / 1e9 - reserved_s)

        reserved_s = min(_PUBLISH_S, self._steps.drain_s / 2)
        for thread in self._working:
            thread.join(left_s(reserved_s))
        with suppress(JournalUnavailable):  # logged, and in the heartbeat's health; the outbox may still be sent
            self._steps.recovery.leave(self._steps.deadline_watch.running)
            self._audit("stopped")
        health.ending("stopping")
        self._steps.heartbeat.step()
        self._drained.set()
        self._steps.commit_signal.set()
        for thread in self._serving:
            thread.join(left_s() or 0.1)
        left = self._relay_all(lambda relay: relay.drain(max(left_s(), 0.2)))
        self._telemetry.log("stopped", unpublished=left)

    def _close_when_idle(self) -> None:
        """A thread that still hangs in an action keeps what it uses: the process ends without closing it."""
        if not any(thread.is_alive() for thread in (*self._working, *self._serving)):
            self._close()

    def _audit(self, kind: str) -> None:
        services = self._steps.services
        me = services.identity
        detail = {"instance_id": me.instance_id, "boot_id": me.boot_id, "version": me.version}
        with self._steps.transitions.commit() as tx:
            services.recorder.audit(tx, kind, at_ns=services.time.now_ns(), detail=detail)

    # --- the step of each thread: seconds to wait before the next -----------------------------------------------------

    def _run_command(self, lane: Lane) -> None:
        task = self._steps.lane_signals.next(self._steps.lanes, lane, _POLL_S, self._clock.monotonic_ns)
        if task is None:
            if lane is Lane.GATHERING:
                self._steps.janitor.step()
                self._steps.leftovers.step()
            return
        again: Task | None = replace(
            task, fresh=False, alone=False, due_ns=self._clock.monotonic_ns() + round(_BUG_S * 1e9)
        )
        try:
            again = self._steps.runner.step(task)
        finally:
            self._steps.lanes.done(task, again)

    def _relay(self) -> None:
        if not self._relay_all(lambda relay: relay.step(0.005)):
            self._steps.commit_signal.wait(_RELAY_S)

    def _relay_all(self, send: Callable[[Relay], int]) -> int:
        """Each relay, whatever happens to the other: heartbeats are sent even while the journal's own outbox, which
        must not be sent from before it is durable, cannot be read. Health and log show that."""
        total = 0
        for relay in self._steps.relays:
            with suppress(LimitExceeded, PermanentFailure):
                total += send(relay)
        return total

    def _send_heartbeat(self) -> float:
        self._steps.heartbeat.step()
        self._steps.commit_signal.set()
        return self._steps.heartbeat_s

    def _watch_deadlines(self) -> float:
        self._steps.deadline_watch.step()
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._tidy_ns:
            self._tidy_ns = now_ns + round(_TIDY_S * 1e9)
            self._steps.heartbeat.tidy()
        return _DEADLINES_S

    def _watch_effects(self) -> float:
        self._steps.effect_watch.step()
        return self._steps.heartbeat_s

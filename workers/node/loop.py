"""The loop: the node's threads, its start, and its drain. The only place here that knows of threads and of waiting.

Run by the command line through bootstrap. One thread feeds, eight contain, two gather, one relays, one beats, one
watches, one keeps vigil; they meet in the lanes (under this file's lock) and in the journal. A start recovers before it
reads anything new; SIGTERM stops intake first, lets what runs finish within the drain's time, leaves the rest claimed
for the next start to probe, publishes, and says goodbye.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from workers.actions.base import Lane
from workers.domain.errors import JournalAway, LimitExceeded, PermanentFailure, reason_of
from workers.domain.retry import backoff_s
from workers.log.ports import Relay
from workers.node.deadline_watch import DeadlineWatch
from workers.node.effect_watch import EffectWatch
from workers.node.feed import Feed
from workers.node.heartbeat import Heartbeat
from workers.node.janitor import Janitor
from workers.node.lanes import THREADS, Lanes, Ticket
from workers.node.recover import Recovery
from workers.node.run import Runner
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.system.ports import StopSignal

_POLL_S: Final = 0.25
"""Longest wait for a record, or for a ticket: how late a stop is noticed."""
_RELAY_S: Final = 0.1
"""Between two looks for acknowledgements; a commit rings the bell, so no record waits for this."""
_WATCH_S: Final = 0.5
_TIDY_S: Final = 60.0
_PUBLISH_S: Final = 2.0
"""Kept of the drain's time for the outbox and the last heartbeat."""
_BUG_S: Final = 60.0
"""A turn that trips over a bug of ours comes again after this: no busy loop, and no command is forgotten."""


class SharedLanes(Lanes):
    """The lanes under one lock, and waiting for a ticket.

    A newcomer wakes one hand of each lane, and a hand that took a ticket wakes the next where there is more to take: to
    wake all ten each time took half of a busy node's time.
    """

    def __init__(self, queue_length: int, now_ns: Callable[[], int]) -> None:
        """``now_ns`` is the monotonic clock that due times are counted by."""
        super().__init__(queue_length)
        self._now_ns = now_ns
        self._lock = threading.RLock()
        self._changed = {lane: threading.Condition(self._lock) for lane in Lane}

    def push(self, tickets: Iterable[Ticket]) -> None:
        """As ``Lanes.push``; wakes who waits."""
        with self._lock:
            super().push(tickets)
            for changed in self._changed.values():
                changed.notify()

    def full(self, lane: Lane, rank: int, *, coming: int = 0) -> bool:
        """As ``Lanes.full``."""
        with self._lock:
            return super().full(lane, rank, coming=coming)

    def idle(self, lane: Lane) -> bool:
        """As ``Lanes.idle``."""
        with self._lock:
            return super().idle(lane)

    @property
    def queued(self) -> int:
        """As ``Lanes.queued``."""
        with self._lock:
            return super().queued

    @property
    def running(self) -> int:
        """As ``Lanes.running``."""
        with self._lock:
            return super().running

    def done(self, ticket: Ticket, again: Ticket | None = None) -> None:
        """As ``Lanes.done``. Wakes nobody: whoever is done asks for the next one."""
        with self._lock:
            super().done(ticket, again)

    def more(self, lane: Lane) -> bool:
        """As ``Lanes.more``."""
        with self._lock:
            return super().more(lane)

    def wait(self, lane: Lane, timeout_s: float) -> Ticket | None:
        """The next ticket, waiting up to ``timeout_s`` for one to come or to fall due."""
        with self._lock:
            now_ns = self._now_ns()
            ticket = self.take(lane, now_ns)
            if ticket is None:
                due_ns = self.next_due_ns(lane)
                wait_s = timeout_s if due_ns is None else min(timeout_s, max(0.0, (due_ns - now_ns) / 1e9))
                self._changed[lane].wait(wait_s)
                ticket = self.take(lane, self._now_ns())
            if ticket is not None and self.more(lane):
                self._changed[lane].notify()
            return ticket


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between heartbeats, and at most for a drain."""

    heartbeat_s: float
    drain_s: float


class CommitSignal:
    """Rung after every commit; the relay sleeps until then."""

    def __init__(self) -> None:
        """Silent."""
        self._rung = threading.Event()

    def ring(self) -> None:
        """There may be something to send."""
        self._rung.set()

    def wait(self, timeout_s: float) -> None:
        """Blocks until it rings, or the time is over."""
        self._rung.wait(timeout_s)
        self._rung.clear()


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything the loop drives."""

    services: Services
    transitions: Transitions
    recovery: Recovery
    feed: Feed
    runner: Runner
    watch: DeadlineWatch
    effect_watch: EffectWatch
    heartbeat: Heartbeat
    janitor: Janitor
    lanes: SharedLanes
    relays: Sequence[Relay]
    """The journal's outbox first, then the heartbeats'."""
    commit_signal: CommitSignal


class Loop:
    """``Runnable``: the whole worker."""

    def __init__(self, steps: Steps, pace: Pace, *, close: Callable[[], None] = lambda: None) -> None:
        """``close`` releases what wiring opened; called last, and only when no thread is left inside an action."""
        self._services = steps
        self._pace = pace
        self._close = close
        self._over = threading.Event()
        self._tidy_ns = 0

    def run(self, stop: StopSignal) -> None:
        """Recover, work until ``stop``, drain. Blocks."""
        if not self._recover(stop):
            self._close()
            return
        working = [self._thread("feed", lambda: self._services.feed.step(_POLL_S), stop)]
        for lane, count in THREADS.items():
            working += [self._thread(f"{lane}-{n}", partial(self._turn, lane), stop) for n in range(count)]
        working.append(self._thread("vigil", self._effect_watch, stop))
        serving = [
            self._thread("relay", self._relay, self._over),
            self._thread("heartbeat", self._beat, self._over),
            self._thread("watch", self._watch, self._over),
        ]
        for thread in (*working, *serving):
            thread.start()
        stop.wait()
        self._drain(working, serving)

    # --- the steps of each thread: seconds to wait before the next ---------------------------------------------------

    def _turn(self, lane: Lane) -> float:
        ticket = self._services.lanes.wait(lane, _POLL_S)
        if ticket is None:
            if lane is Lane.GATHERING:
                self._services.janitor.step()
            return 0.0
        due_ns = self._services.services.clock.monotonic_ns() + round(_BUG_S * 1e9)
        again: Ticket | None = replace(ticket, fresh=False, due_ns=due_ns)
        try:
            again = self._services.runner.step(ticket)
        finally:
            self._services.lanes.done(ticket, again)
        return 0.0

    def _relay(self) -> float:
        if not self._relayed(lambda relay: relay.step(0.005)):
            self._services.commit_signal.wait(_RELAY_S)
        return 0.0

    def _relayed(self, turn: Callable[[Relay], int]) -> int:
        """Each relay's turn, whatever becomes of the other's: heartbeats leave while the journal's own outbox, which
        must not be sent from before it is durable, cannot even be read. Health and log say so."""
        total = 0
        for relay in self._services.relays:
            with suppress(LimitExceeded, PermanentFailure):
                total += turn(relay)
        return total

    def _beat(self) -> float:
        self._services.heartbeat.step()
        self._services.commit_signal.ring()
        return self._pace.heartbeat_s

    def _watch(self) -> float:
        self._services.watch.step()
        now_ns = self._services.services.clock.monotonic_ns()
        if now_ns >= self._tidy_ns:
            self._tidy_ns = now_ns + round(_TIDY_S * 1e9)
            self._services.heartbeat.tidy()
        return _WATCH_S

    def _effect_watch(self) -> float:
        self._services.effect_watch.step()
        return self._pace.heartbeat_s

    # --- start and end -----------------------------------------------------------------------------------------------

    def _recover(self, stop: StopSignal) -> bool:
        """Count the crashes and queue what is unfinished; without that, durably, nothing may run."""
        failures = 0
        while not stop.is_set():
            try:
                self._note("started")
                self._services.lanes.push(self._services.recovery.start())
            except JournalAway:
                failures += 1
                self._services.heartbeat.step()
                self._relayed(lambda relay: relay.step())
                stop.wait(backoff_s(failures))
            else:
                return True
        return False

    def _drain(self, working: Sequence[threading.Thread], serving: Sequence[threading.Thread]) -> None:
        clock, health = self._services.services.clock, self._services.services.health
        health.ending("draining")
        end_ns = clock.monotonic_ns() + round(self._pace.drain_s * 1e9)

        def left_s(kept_s: float = 0.0) -> float:
            return max(0.0, (end_ns - clock.monotonic_ns()) / 1e9 - kept_s)

        kept_s = min(_PUBLISH_S, self._pace.drain_s / 2)
        for thread in working:
            thread.join(left_s(kept_s))
        try:
            self._services.recovery.leave(self._services.watch.running)
            self._note("stopped")
        except JournalAway:
            pass  # said by health and log already; the outbox may still leave
        health.ending("stopping")
        self._services.heartbeat.step()
        self._over.set()
        self._services.commit_signal.ring()
        for thread in serving:
            thread.join(left_s() or 0.1)
        left = self._relayed(lambda relay: relay.drain(max(left_s(), 0.2)))
        self._services.services.telemetry.log("stopped", unpublished=left)
        if not any(thread.is_alive() for thread in (*working, *serving)):
            self._close()

    def _note(self, kind: str) -> None:
        me = self._services.services.identity
        detail = {"instance_id": me.instance_id, "boot_id": me.boot_id, "version": me.version}
        with self._services.transitions.commit() as tx:
            self._services.services.recorder.audit(tx, kind, at_ns=self._services.services.time.now_ns(), detail=detail)

    def _thread(self, name: str, step: Callable[[], float], stop: StopSignal) -> threading.Thread:
        """A daemon: a run that hangs in the kernel must not keep the process from ending; its entry stays claimed."""
        return threading.Thread(target=self._forever, args=(name, step, stop), name=f"node-{name}", daemon=True)

    def _forever(self, name: str, step: Callable[[], float], stop: StopSignal) -> None:
        failures = 0
        while not stop.is_set():
            try:
                pause_s = step()
                failures = 0
            except Exception as error:  # noqa: BLE001 - a thread that ended would be a worker that looks alive
                failures += 1
                pause_s = backoff_s(failures)
                self._services.services.telemetry.log(
                    "step_failed", level="error", step=name, error=type(error).__name__, reason=reason_of(error)
                )
            if pause_s:
                stop.wait(pause_s)

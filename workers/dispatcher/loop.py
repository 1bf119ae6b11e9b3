"""The dispatcher's one thread: read, take in, send, look at the clock, until told to stop.

Made by ``bootstrap``, run by the command line. Everything that decides is in ``desk``; here are only order, waiting and
what to do when broker or disk is away. A record leaves ``_waiting`` only once the ledger has it.
"""

from collections.abc import Callable, Sequence
from typing import Final

from workers.core import topics
from workers.core.errors import LimitExceeded, TransientFailure
from workers.core.record import Delivery
from workers.core.routing import command_topic
from workers.dispatcher.desk import REQUESTS, Desk
from workers.dispatcher.rows import Rows
from workers.dispatcher.timers import LIMIT
from workers.dispatcher.turn import Room
from workers.ports import Clock, Ledger, LogReader, Relay, StopSignal

READ: Final = (topics.NODES, topics.RESULTS, *REQUESTS)

POLL_S: Final = 0.05
"""Longest wait for a record: acknowledgements and timers are looked at this often when nothing else happens."""

TICK_NS: Final = 1_000_000_000
PAUSE_S: Final = 0.5
"""After a failure that may pass."""

SETTLE_S: Final = 0.5
"""How long ``fleet.nodes`` must be silent at the start before requests are read: whoever asks first must find the
nodes that were there before."""

LONGEST_SETTLE_NS: Final = 5_000_000_000
"""A large fleet is never silent."""

DRAIN_S: Final = 10.0


class Loop:
    """``Runnable``."""

    def __init__(
        self, room: Room, desk: Desk, ledger: Ledger, *, reader: LogReader, relay: Relay, clock: Clock
    ) -> None:
        """``relay`` empties ``ledger`` through the room's ``tails``."""
        self._room = room
        self._desk = desk
        self._ledger = ledger
        self._reader = reader
        self._relay = relay
        self._clock = clock
        self._waiting: Sequence[Delivery] = ()
        self._last_tick_ns = 0

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then send what is left. Blocks.

        Raises:
            PermanentFailure: the ledger cannot be trusted any more; a new start reads it again.
        """
        try:
            if self._begin(stop):
                while not stop.is_set():
                    self._patiently(self._turn, stop)
            left = self._relay.drain(DRAIN_S)
            self._room.telemetry.log("stopped", unsent=left)
        finally:
            self._reader.close()
            self._room.tails.close()
            self._ledger.close()

    def _begin(self, stop: StopSignal) -> bool:
        """Find the logs, hear the nodes, and only then read requests; False when stopped before that."""
        steps = (self._find_logs, self._hear_nodes, self._read_all)
        return all(self._insist(step, stop) for step in steps)

    def _insist(self, step: Callable[[], None], stop: StopSignal) -> bool:
        while not stop.is_set():
            if self._patiently(step, stop):
                return True
        return False

    def _patiently(self, step: Callable[[], None], stop: StopSignal) -> bool:
        """Whether the step went through; a broker or disk that is away costs a pause."""
        try:
            step()
        except (TransientFailure, LimitExceeded) as failure:
            self._room.telemetry.log("waiting", level="warning", reason=failure.reason, error=failure.message)
            stop.wait(PAUSE_S)
            return False
        return True

    def _find_logs(self) -> None:
        with self._ledger.begin() as tx:
            known = Rows(tx, self._room.codec).tails()
        for position, next_offset in known:
            self._room.tails.note(position, next_offset)
        for zone in self._room.zones:
            for position in self._reader.partitions(command_topic(zone)):
                self._room.tails.note(position, 0)
        again = self._desk.send_again()
        if again:
            self._room.telemetry.log("commands_sent_again", level="warning", commands=again)

    def _hear_nodes(self) -> None:
        self._reader.assign(self._desk.starts(self._reader.partitions(topics.NODES)))
        until_ns = self._clock.monotonic_ns() + LONGEST_SETTLE_NS
        while self._clock.monotonic_ns() < until_ns and (deliveries := self._reader.poll(SETTLE_S)):
            self._desk.take(deliveries)

    def _read_all(self) -> None:
        positions = [position for topic in READ for position in self._reader.partitions(topic)]
        self._reader.assign(self._desk.starts(positions))

    def _turn(self) -> None:
        if not self._waiting:
            moved = self._relay.step()
            self._waiting = self._reader.poll(0.0 if moved else POLL_S)
        if self._waiting:
            self._desk.take(self._waiting)
            self._waiting = ()
            self._relay.step()
        if self._clock.monotonic_ns() - self._last_tick_ns >= TICK_NS and self._desk.tick() < LIMIT:
            self._last_tick_ns = self._clock.monotonic_ns()

"""The dispatcher's one thread: read, take in, send, check the timers, until stopped.

Made by ``wiring.dispatcher``, run by the command line. Everything that decides is in ``dispatcher.dispatcher``; here
are only the order and the waiting. A record leaves ``_queue`` only once the ledger has it.
"""

from collections.abc import Callable, Sequence
from typing import Final

from workers.dispatcher.dispatcher import REQUESTS, Dispatcher
from workers.dispatcher.intake_queue import IntakeQueue
from workers.dispatcher.services import Services
from workers.dispatcher.timers import LIMIT
from workers.domain.errors import LimitExceeded, TransientFailure
from workers.domain.log import topics
from workers.domain.log.record import Delivery, LogPosition
from workers.log.ports import LogReader, Relay
from workers.service import Service
from workers.system.ports import Clock, StopSignal

READ: Final = (topics.NODES, topics.RESULTS, *REQUESTS)
"""``fleet.topology`` too, where it is available: containment must not wait for a topic that changes once a year."""

POLL_S: Final = 0.05
"""Longest wait for a record: acknowledgements and timers are checked this often when nothing else happens."""

READ_AT_ONCE: Final = 2_000
"""Records in one poll: enough to see urgent requests behind others, few enough that reading delays nothing."""

TICK_NS: Final = 1_000_000_000
LONGEST_PAUSE_S: Final = 0.5
"""After a failure that may pass."""

SETTLE_S: Final = 0.5
"""How long ``fleet.nodes`` must be silent at the start before requests are read: the first request must find the nodes
that were there before."""

LONGEST_SETTLE_NS: Final = 5_000_000_000
"""A large fleet is never silent."""

LISTEN_AGAIN_NS: Final = 60_000_000_000
"""Until ``fleet.topology`` is looked for again when it was not available."""

DRAIN_S: Final = 10.0


class Loop:
    """Implements ``Runnable``."""

    def __init__(
        self,
        services: Services,
        dispatcher: Dispatcher,
        *,
        reader: LogReader,
        relay: Relay,
        clock: Clock,
        close: Callable[[], None],
    ) -> None:
        """``relay`` empties the ledger through ``services.tails``; ``close`` closes what wiring opened, called last."""
        self._close = close
        self._services = services
        self._dispatcher = dispatcher
        self._reader = reader
        self._relay = relay
        self._clock = clock
        self._queue = IntakeQueue()
        self._last_tick_ns = 0
        self._listen_again_ns: int | None = None
        self._new_topics = False
        """A growth was announced, and how far the new topic is written is not known yet."""

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then send what is left. Blocks.

        Raises:
            PermanentFailure: the ledger cannot be trusted any more; a new start reads it again.
        """
        service = Service(
            self._services.telemetry, retry_on=(TransientFailure, LimitExceeded), longest_pause_s=LONGEST_PAUSE_S
        )
        # Nodes and growth must be known before the first request is read.
        start = (self._find_logs, self._read_fleet, self._assign_all)
        service.run(stop, start=start, step=self._step, drain=self._drain, close=self._close)

    def _step(self) -> None:
        if not self._queue:
            moved = self._relay.step()
            self._queue.add(self._reader.poll(0.0 if moved else POLL_S, limit=READ_AT_ONCE))
        if self._queue:
            now = self._queue.next()
            self._take(now)
            self._queue.taken(now)
            self._relay.step()
        if self._queue and (capacity := self._queue.capacity):
            self._queue.add(self._reader.poll(0.0, limit=min(capacity, READ_AT_ONCE)))
        if self._clock.monotonic_ns() - self._last_tick_ns >= TICK_NS and self._dispatcher.tick() < LIMIT:
            self._last_tick_ns = self._clock.monotonic_ns()
            self._find_new_topics()
            if self._listen_again_ns is not None and self._clock.monotonic_ns() >= self._listen_again_ns:
                self._assign_all()

    def _drain(self) -> None:
        left = self._relay.drain(DRAIN_S)
        self._services.telemetry.log("stopped", unsent=left)

    # --- start: which partitions there are, and what is known of the fleet --------------------------------------------

    def _find_logs(self) -> None:
        for tail in self._dispatcher.known_tails():
            self._services.tails.note(tail.position, tail.next_offset)
        try:
            self._find_command_topics()
        except TransientFailure as failure:
            if failure.reason != "unknown_topic":
                raise
            self._take_all(self._topology())  # a new ledger, and the first generation no longer exists
            self._find_command_topics()
        again = self._dispatcher.send_again()
        if again:
            self._services.telemetry.log("commands_sent_again", level="warning", commands=again)

    def _find_command_topics(self) -> None:
        """The topics that new commands go to must exist; those of older generations may be gone for good."""
        for topic, new in self._dispatcher.command_topics():
            try:
                positions = self._reader.partitions(topic)
            except TransientFailure as failure:
                if new or failure.reason != "unknown_topic":
                    raise
                continue
            for position in positions:
                self._services.tails.note(position, 0)
        self._new_topics = False

    def _read_fleet(self) -> None:
        self._take_all((*self._reader.partitions(topics.NODES), *self._topology()))

    def _take_all(self, positions: Sequence[LogPosition]) -> None:
        """Take in what these partitions hold, before anything else is read."""
        self._reader.assign(self._dispatcher.starts(positions))
        until_ns = self._clock.monotonic_ns() + LONGEST_SETTLE_NS
        while self._clock.monotonic_ns() < until_ns and (deliveries := self._reader.poll(SETTLE_S)):
            self._take(deliveries)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        self._dispatcher.take(deliveries)
        if any(delivery.position.topic == topics.TOPOLOGY for delivery in deliveries):
            self._new_topics = True
            self._find_new_topics()

    def _find_new_topics(self) -> None:
        """Learn how far a new topic is written. Until then nothing can be proven about a command in it."""
        if not self._new_topics:
            return
        try:
            self._find_command_topics()
        except TransientFailure as failure:
            self._services.telemetry.log(
                "new_topic_away", level="warning", reason=failure.reason, error=failure.message
            )

    def _assign_all(self) -> None:
        self._queue.clear()
        positions = [position for topic in READ for position in self._reader.partitions(topic)]
        self._reader.assign(self._dispatcher.starts((*positions, *self._topology())))

    def _topology(self) -> Sequence[LogPosition]:
        """Empty where it is not available: then what the ledger knows holds, and it is looked for again later."""
        self._listen_again_ns = None
        try:
            return self._reader.partitions(topics.TOPOLOGY)
        except TransientFailure as failure:
            self._services.telemetry.log("no_topology", level="warning", reason=failure.reason, error=failure.message)
            self._listen_again_ns = self._clock.monotonic_ns() + LISTEN_AGAIN_NS
            return ()

"""Reading with one consumer: poll, drain, gaps, and brokers that cannot be reached. What both readers share.

Called by ``readers``; calls ``next_offsets`` and ``cluster_facts``. Must never wait longer than its caller allows, save
for one question to the cluster when an offset is gone or no broker can be reached; never lose a gap it found.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message

from workers.domain.errors import TransientFailure
from workers.domain.log.record import Delivery, Earliest, Gap, LogPosition
from workers.log.client_events import ClientEvents, could_not_open, unavailable
from workers.log.cluster_facts import ClusterFacts
from workers.log.config import ClientConfig
from workers.log.next_offsets import NextOffsets, Partition
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_METADATA_S: Final = 5.0

_CHECK_EVERY_NS: Final = 5_000_000_000
"""The least between two checks of the topics: each asks the cluster once, which takes milliseconds."""

_CHECKS: Final = 2
"""After an end was reached: the first check may ask a broker that does not know the new topic yet."""

_PROBE_S: Final = 0.1
"""The least time a broker gets to answer after none could be reached."""


class LogConsumer:
    """One consumer and its next offsets."""

    def __init__(
        self, settings: KafkaSettings, config: ClientConfig, *, member: bool, telemetry: Telemetry, clock: Clock
    ) -> None:
        """``member``: of a group, which would notice if the client were replaced by another.

        Raises ``ConfigError`` when the client refuses its configuration.
        """
        self.events = ClientEvents(telemetry, clock)
        self.facts = ClusterFacts(settings, ClientEvents(telemetry, clock))
        self.next_offsets = NextOffsets()
        self._clock = clock
        self._config = config | {"error_cb": self.events.error}
        self._member = member
        self.client = self._open()
        self._reading = False
        """The client has read something, so a fetch may be parked at the broker."""
        self._behind = False
        """The client has not been assigned the next offsets yet."""
        self._checks_due = 0
        self._check_from_ns = 0
        self._gaps: list[Gap] = []
        self._held: list[Message] = []
        """Arrived while ``wait_for`` waited for something else; returned by the next poll."""
        self._closed = False

    def poll(self, timeout_s: float, *, limit: int = 500) -> list[Delivery]:
        """As ``LogReader.poll``. A client that ``events`` calls fatal returns nothing any more: replace it."""
        self._check_topics()
        found: list[Delivery] = list(self._recover())
        if self._held:
            some, self._held = self._held[:limit], self._held[limit:]
            found += self.next_offsets.take(some)
        if len(found) < limit:
            found += self.next_offsets.take(self._messages(0.0 if found else timeout_s, limit - len(found)))
        if not found:
            found += self._recover()
        if found:
            self.events.reached()
        elif self.events.unreachable:
            self._probe(timeout_s)
        return found

    def start(self, offsets: Mapping[LogPosition, int]) -> None:
        """Read these partitions from these offsets, and nothing else. Raises ``TransientFailure``."""
        self.next_offsets.start(offsets)
        self._gaps = []
        self._assign()
        self.facts.release()

    def forget(self) -> None:
        """The partitions were revoked."""
        self.next_offsets.start({})
        self._gaps, self._held, self._behind = [], [], False

    def wait_for(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Let the client run its callbacks until ``done`` or the time is over. Raises ``TransientFailure``."""
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while not done():
            left = until - self._clock.monotonic_ns()
            if left <= 0:
                return False
            came = self._messages(min(left / 1e9, 0.1), 1)  # a callback inside may empty what is held
            self._held += came
        return True

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self.client.close()
            self.facts.release()

    def _open(self) -> Consumer:
        try:
            return Consumer(self._config, logger=self.events)
        except KafkaException as error:
            raise could_not_open(error) from error

    def _messages(self, timeout_s: float, limit: int) -> list[Message]:
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            came = self._some_messages(max(0.0, (until - self._clock.monotonic_ns()) / 1e9), limit)
            messages = [message for message in came if not self._is_end(message)]
            if messages or not came:
                return messages

    def _some_messages(self, timeout_s: float, limit: int) -> list[Message]:
        # `consume(n, t)` waits for n messages; waiting for one and taking what is there besides returns at once.
        try:
            first = self.client.poll(timeout_s)
        except KafkaException as error:
            raise unavailable("reading", error) from error
        if first is None:
            return []
        messages = [first]
        if limit > 1:
            with suppress(KafkaException):  # the first must not be lost to what comes behind it
                messages += self.client.consume(limit - 1, 0.0)
        return messages

    def _is_end(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.name() == "_PARTITION_EOF":
            self._checks_due = _CHECKS if self.facts.tells_logs_apart else 0
            return True
        if error.name() == "_FATAL":
            self.events.error(error)
        else:
            self.events.log(logging.WARNING, "%s [%s] %s", error.name(), message.topic(), error.str())
        return False

    def _assign(self) -> None:
        """Make the client read from the next offsets; until that succeeds, every poll tries again."""
        self._behind = True
        self._held = []
        if self._reading and not self._member:
            # A broker answers one connection's requests in turn, so a new assignment would wait behind the parked
            # fetch of the old one for up to ``fetch_wait_ms``: ten seconds. A new connection does not.
            self.client.close()
            self.client = self._open()
            self._reading = False
        assignment = self.next_offsets.assignment()
        self._learn_leaders({partition.topic for partition in assignment})
        try:
            self.client.assign(assignment)
        except KafkaException as error:
            raise unavailable("reading", error) from error
        self._behind = False
        self._reading = True

    def _learn_leaders(self, topics: Iterable[str]) -> None:
        """Let a new client learn who leads these topics.

        A client that is assigned a topic it does not know looks for the leader once a second: measured, every sixth
        first record came a second late.
        """
        if self._reading:
            return
        for topic in topics:
            try:
                self.client.list_topics(topic, timeout=_METADATA_S)
            except KafkaException as error:
                raise unavailable(f"topic {topic}", error) from error

    def _recover(self) -> list[Gap]:
        """Continue behind offsets that are gone; the gaps that this leaves."""
        lost = self.next_offsets.lost_positions()
        if lost:
            now: dict[Partition, LogPosition] = {}
            for topic in sorted({position.topic for position in lost}):
                positions = self.facts.positions(topic)
                self.next_offsets.note_replaced(positions)
                now |= {(found.topic, found.partition): found for found in positions}
            lost = self.next_offsets.lost_positions()
            left = [position for position in lost if (position.topic, position.partition) in now]
            lows = self.facts.offsets({position: Earliest() for position in left})
            self._gaps += self.next_offsets.resume(lows, now)
            self._behind = True
        if self._behind:
            self._assign()
            self.facts.release()
        gaps, self._gaps = self._gaps, []
        return gaps

    def _check_topics(self) -> None:
        """Whether what is read is still the same log.

        A topic that is deleted and recreated within the client's back-off, and by then holds as many records as were
        read of the old one, gives no error at all: the client reads on in the new log and skips its first records
        (measured: one time in seven). But the client reports that it reached an end, again.
        """
        now = self._clock.monotonic_ns()
        if not self._checks_due or now < self._check_from_ns:
            return
        self._checks_due -= 1
        self._check_from_ns = now + _CHECK_EVERY_NS
        for topic in sorted(self.next_offsets.topics()):
            # Deleted and not recreated yet, or no broker to ask: another end follows.
            with suppress(TransientFailure):
                self.next_offsets.note_replaced(self.facts.positions(topic))
        self.facts.release()

    def _probe(self, timeout_s: float) -> None:
        # The client reports once that it lost every broker, and nothing when it has one again.
        if not self.facts.answers(max(timeout_s, _PROBE_S)):
            raise TransientFailure(f"the log does not answer: {self.events.unreachable}", code="log_away")
        self.facts.release()
        self.events.reached()

"""Reading with one consumer: poll, drain, gaps, and a broker that is away. What both readers share.

Called by ``reader`` and ``group``; calls ``cursors`` and ``log_facts``. Must never wait longer than it was told to,
save for one question to the cluster when an offset is gone or the broker is away; never lose a gap it found.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message

from workers.adapters.kafka.client_events import ClientEvents
from workers.adapters.kafka.config import ClientConfig
from workers.adapters.kafka.cursors import Cursors, Place
from workers.adapters.kafka.failures import away, could_not_open
from workers.adapters.kafka.log_facts import LogFacts
from workers.core.errors import TransientFailure
from workers.core.record import Delivery, Earliest, Gap, LogPosition
from workers.ports import Clock, Telemetry
from workers.settings import KafkaSettings

_ACQUAINT_S: Final = 5.0

_LOOK_AGAIN_NS: Final = 1_000_000_000

_LOOK_FOR_NS: Final = 30_000_000_000
"""How long to look again after the client saw a topic go: it may be made anew later, and a broker may not have heard
of either yet."""

_PROBE_S: Final = 0.1
"""The least time a broker that was away gets to answer."""


class Consumption:
    """One consumer and its cursors."""

    def __init__(
        self, settings: KafkaSettings, config: ClientConfig, *, member: bool, telemetry: Telemetry, clock: Clock
    ) -> None:
        """``member``: of a group, which would notice if the client were replaced by another.

        Raises ``ConfigError`` when the client refuses its configuration.
        """
        self.events = ClientEvents(telemetry, clock)
        self.facts = LogFacts(settings, ClientEvents(telemetry, clock))
        self.cursors = Cursors()
        self._clock = clock
        self._config = config | {"error_cb": self.events.error}
        self._member = member
        self.client = self._open()
        self._reading = False
        """The client has read something, so a fetch may be parked at the broker."""
        self._behind = False
        """The client does not know yet what the cursors say."""
        self._look_again_ns = 0
        self._look_until_ns = 0
        self._gaps: list[Gap] = []
        self._held: list[Message] = []
        """Came while somebody waited for something else; handed out by the next poll."""
        self._closed = False

    def poll(self, timeout_s: float, limit: int) -> list[Delivery]:
        """As ``LogReader.poll``."""
        self._look_at_topics()
        found: list[Delivery] = list(self._mend())
        if self._held:
            some, self._held = self._held[:limit], self._held[limit:]
            found += self.cursors.take(some)
        if len(found) < limit:
            found += self.cursors.take(self._messages(0.0 if found else timeout_s, limit - len(found)))
        if not found:
            found += self._mend()
        if found:
            self.events.reached()
        elif self.events.away:
            self._probe(timeout_s)
        return found

    def start(self, offsets: Mapping[LogPosition, int]) -> None:
        """Read these partitions from there, and nothing else. Raises ``TransientFailure``."""
        self.cursors.start(offsets)
        self._gaps = []
        self._tell()
        self.facts.release()

    def forget(self) -> None:
        """The partitions were taken away."""
        self.cursors.start({})
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
        # `consume(n, t)` waits for n messages; waiting for one and taking what is there besides answers at once.
        try:
            first = self.client.poll(timeout_s)
        except KafkaException as error:
            raise away("reading", error) from error
        if first is None:
            return []
        messages = [first]
        if limit > 1:
            with suppress(KafkaException):  # the first must not be lost to what comes behind it
                messages += self.client.consume(limit - 1, 0.0)
        for message in messages:
            said = message.error()
            if said is not None:
                self.events.log(logging.WARNING, "%s [%s] %s", said.name(), message.topic(), said.str())
        return messages

    def _tell(self) -> None:
        """Make the client read what the cursors say; until that succeeds, every poll tries again."""
        self._behind = True
        self._held = []
        if self._reading and not self._member:
            # A broker answers one connection's requests in turn, so a new assignment would wait behind the parked
            # fetch of the old one for up to ``fetch_wait_ms``: ten seconds. A new connection does not.
            self.client.close()
            self.client = self._open()
            self._reading = False
        assignment = self.cursors.assignment()
        self._acquaint({place.topic for place in assignment})
        try:
            self.client.assign(assignment)
        except KafkaException as error:
            raise away("reading", error) from error
        self._behind = False
        self._reading = True

    def _acquaint(self, topics: Iterable[str]) -> None:
        """Let a new client learn who leads these topics.

        Told to read a topic it has not heard of, it looks for the leader once a second: measured, every sixth first
        record came a second late.
        """
        if self._reading:
            return
        for topic in topics:
            try:
                self.client.list_topics(topic, timeout=_ACQUAINT_S)
            except KafkaException as error:
                raise away(f"topic {topic}", error) from error

    def _mend(self) -> list[Gap]:
        lost = self.cursors.lost_positions()
        if lost:
            now: dict[Place, LogPosition] = {}
            for topic in sorted({position.topic for position in lost}):
                positions = self.facts.positions(topic)
                self.cursors.replaced(positions)
                now |= {(found.topic, found.partition): found for found in positions}
            lost = self.cursors.lost_positions()
            left = [position for position in lost if (position.topic, position.partition) in now]
            lows = self.facts.offsets({position: Earliest() for position in left})
            self._gaps += self.cursors.resume(lows, now)
            self._behind = True
        if self._behind:
            self._tell()
            self.facts.release()
        gaps, self._gaps = self._gaps, []
        return gaps

    def _look_at_topics(self) -> None:
        """Whether what is read is still the log it was; asked once a second for a while after a topic went."""
        now = self._clock.monotonic_ns()
        if self.events.topics_changed:
            self.events.topics_changed = False
            self._look_until_ns = now + _LOOK_FOR_NS
        if now >= self._look_until_ns or now < self._look_again_ns:
            return
        self._look_again_ns = now + _LOOK_AGAIN_NS
        for topic in sorted(self.cursors.topics()):
            with suppress(TransientFailure):  # deleted and not made again yet, or nobody to ask
                self.cursors.replaced(self.facts.positions(topic))
        self.facts.release()

    def _probe(self, timeout_s: float) -> None:
        # The client says once that it lost every broker, and nothing when it has one again.
        if not self.facts.answers(max(timeout_s, _PROBE_S)):
            raise TransientFailure(f"the log does not answer: {self.events.away}", code="log_away")
        self.facts.release()
        self.events.reached()

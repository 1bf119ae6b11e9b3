"""Reading with one consumer: poll, drain, gaps, and a broker that is away. What both readers share.

Called by ``reader`` and ``group``; calls ``cursors`` and ``log_facts``. Must never wait longer than it was told to,
save for one question to the cluster when an offset is gone or the broker is away; never lose a gap it found.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message

from workers.domain.errors import TransientFailure
from workers.domain.log.record import Delivery, Earliest, Gap, LogPosition
from workers.log.client_events import ClientEvents
from workers.log.config import ClientConfig
from workers.log.cursors import Cursors, Place
from workers.log.failures import away, could_not_open
from workers.log.log_facts import LogFacts
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ACQUAINT_S: Final = 5.0

_LOOK_EVERY_NS: Final = 5_000_000_000
"""The least between two looks at the topics: each asks the cluster once, which takes milliseconds."""

_LOOKS: Final = 2
"""After an end was reached: the first look may ask a broker that has not heard of the new topic yet."""

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
        self._looks_due = 0
        self._look_from_ns = 0
        self._gaps: list[Gap] = []
        self._held: list[Message] = []
        """Came while somebody waited for something else; handed out by the next poll."""
        self._closed = False

    def poll(self, timeout_s: float, limit: int) -> list[Delivery]:
        """As ``LogReader.poll``. A client that ``events`` calls fatal gives nothing any more: replace it."""
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
        until = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            came = self._some_messages(max(0.0, (until - self._clock.monotonic_ns()) / 1e9), limit)
            messages = [message for message in came if not self._is_end(message)]
            if messages or not came:
                return messages

    def _some_messages(self, timeout_s: float, limit: int) -> list[Message]:
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
        return messages

    def _is_end(self, message: Message) -> bool:
        said = message.error()
        if said is None:
            return False
        if said.name() == "_PARTITION_EOF":
            self._looks_due = _LOOKS if self.facts.tells_logs_apart else 0
            return True
        if said.name() == "_FATAL":
            self.events.error(said)
        else:
            self.events.log(logging.WARNING, "%s [%s] %s", said.name(), message.topic(), said.str())
        return False

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
        """Whether what is read is still the log it was.

        A topic that is deleted and made again within the client's back-off, and by then holds as many records as were
        read of the old one, gives no error at all: the client reads on in the new log, behind records that nobody saw
        (measured: one time in seven). But it says that it reached an end, again.
        """
        now = self._clock.monotonic_ns()
        if not self._looks_due or now < self._look_from_ns:
            return
        self._looks_due -= 1
        self._look_from_ns = now + _LOOK_EVERY_NS
        for topic in sorted(self.cursors.topics()):
            with suppress(TransientFailure):  # deleted and not made again yet, or nobody to ask: an end comes after it
                self.cursors.replaced(self.facts.positions(topic))
        self.facts.release()

    def _probe(self, timeout_s: float) -> None:
        # The client says once that it lost every broker, and nothing when it has one again.
        if not self.facts.answers(max(timeout_s, _PROBE_S)):
            raise TransientFailure(f"the log does not answer: {self.events.away}", code="log_away")
        self.facts.release()
        self.events.reached()

"""``GroupReader`` on Kafka: a member of a consumer group, which keeps the offsets.

Made by ``wiring`` for the responder; one thread uses it. A rebalance happens inside ``poll``: what was polled from a
partition that is taken away and not committed is read again by its next owner. Must never commit what was not polled.
"""

from collections.abc import Sequence
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.log.record import Delivery, Earliest, LogPosition, Offset, Start
from workers.log.config import group_config
from workers.log.consumption import Consumption
from workers.log.cursors import Place
from workers.log.failures import away
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S = 5.0

_GIVES_WAY_NS = 60_000_000_000
"""Two of one name meet at the next heartbeat or commit of the other: within seconds."""


class KafkaGroupReader:
    """One member."""

    def __init__(
        self, settings: KafkaSettings, group: str, *, member: str = "", telemetry: Telemetry, clock: Clock
    ) -> None:
        """``member``: a name that nobody else in the group has. Raises ``ConfigError``. Connects in the background."""
        config = group_config(settings, group, member) | {"on_commit": self._take_answer}
        self._open = partial(Consumption, settings, config, member=True, telemetry=telemetry, clock=clock)
        self._consumption = self._open()
        self._clock = clock
        self._once_more_ns = 0
        """When the client was last replaced, on the monotonic clock; 0 when it never was."""
        self._topics: Sequence[str] = ()
        self._answer: tuple[KafkaError | None, list[TopicPartition]] | None = None
        self._fresh: Start = Earliest()
        self._given: list[TopicPartition] = []
        """Partitions the group gave us that we do not read yet."""
        self._committed: dict[Place, int] = {}

    def subscribe(self, topics: Sequence[str], *, fresh: Start) -> None:
        """As ``GroupReader.subscribe``."""
        self._topics, self._fresh = topics, fresh
        self._consumption.client.subscribe(
            list(topics), on_assign=self._give, on_revoke=self._take_away, on_lost=self._take_away
        )

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """As ``GroupReader.poll``."""
        if self._consumption.events.fatal:
            self._join_again()
        if self._given:
            self._start_reading()
        return self._consumption.poll(timeout_s, limit)

    def commit(self) -> None:
        """As ``GroupReader.commit``. A partition that was taken away meanwhile is left out: it is its next owner's."""
        if self._consumption.events.fatal:
            self._join_again()
        offsets = [
            cursor
            for cursor in self._consumption.cursors.assignment()
            if self._committed.get((cursor.topic, cursor.partition)) != cursor.offset
        ]
        if not offsets:
            return
        wanted = {(cursor.topic, cursor.partition): cursor.offset for cursor in offsets}
        self._answer = None
        try:
            # Not the synchronous call: without a coordinator it waits for one for ever.
            self._consumption.client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            raise away("committing offsets", error) from error
        if not self._consumption.wait_for(lambda: self._answers(wanted), _ASK_S):
            raise TransientFailure("committing offsets: no answer in time", code="log_away")
        self._committed |= wanted

    def _join_again(self) -> None:
        """A broker that died and came back may take this member's own former self for somebody else of its name, and
        the client is then broken for good; a new one helps. Of two that really have one name each would throw the
        other out for ever: whoever is thrown out again so soon gives way.

        Raises:
            PermanentFailure: ``member_fenced``.
        """
        now_ns = self._clock.monotonic_ns()
        if self._once_more_ns and now_ns - self._once_more_ns < _GIVES_WAY_NS:
            raise PermanentFailure(
                "another member of the group has this one's name (`member`); give each its own", code="member_fenced"
            )
        self._once_more_ns = now_ns
        self._consumption.close()
        self._consumption = self._open()
        self._given, self._committed = [], {}
        self.subscribe(self._topics, fresh=self._fresh)

    def _answers(self, wanted: dict[Place, int]) -> bool:
        """Whether the group answered this commit, and not one before. Raises ``TransientFailure`` when it refused."""
        answer, self._answer = self._answer, None
        if answer is None:
            return False
        failure, partitions = answer
        if {(place.topic, place.partition): place.offset for place in partitions} != wanted:
            return False
        for error in (failure, *(place.error for place in partitions)):
            if error is not None:
                raise away("committing offsets", KafkaException(error))
        return True

    def _take_answer(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._answer = (error, partitions)

    def close(self) -> None:
        """Leave the group. Idempotent."""
        self._consumption.close()

    # The callbacks run inside the client's poll, where an error has nowhere to go: they only take note, and the
    # questions to the cluster are asked by the next poll.

    def _give(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        client.assign([])
        self._consumption.forget()
        self._committed = {}
        self._given = list(partitions)

    def _take_away(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        client.unassign()
        self._consumption.forget()
        self._given = []

    def _start_reading(self) -> None:
        try:
            known = self._consumption.client.committed(self._given, timeout=_ASK_S)
        except KafkaException as error:
            raise away("the group's offsets", error) from error
        committed = {(place.topic, place.partition): place.offset for place in known if place.offset >= 0}
        starts: dict[LogPosition, Start] = {}
        for topic in sorted({place.topic for place in self._given}):
            for position in self._consumption.facts.positions(topic):
                place = (position.topic, position.partition)
                if place in {(given.topic, given.partition) for given in self._given}:
                    starts[position] = Offset(committed[place]) if place in committed else self._fresh
        self._consumption.start(self._consumption.facts.offsets(starts))
        self._committed = committed
        self._given = []

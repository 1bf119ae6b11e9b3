"""``LogReader`` and ``GroupReader`` on Kafka.

Made by ``wiring``: the log reader for node, dispatcher and projector, which keep their offsets; the group reader for
the responder, whose group keeps them. One thread uses a reader. A rebalance happens inside ``poll``: what was polled
from a partition that is revoked and not committed is read again by its next owner. Must never commit what was not
polled; the log reader never commits at all.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.log.record import Delivery, Earliest, LogPosition, Offset, Start
from workers.log.client_events import unavailable
from workers.log.config import group_config, reader_config
from workers.log.consumer import LogConsumer
from workers.log.next_offsets import Partition
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 5.0

_GIVE_UP_NS: Final = 60_000_000_000
"""Two members of one name meet at the next heartbeat or commit of the other: within seconds."""


class KafkaLogReader(LogConsumer):
    """One consumer that is no member of a group."""

    def __init__(self, settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> None:
        """Raises ``ConfigError``. Connects in the background: a broker that cannot be reached is no error yet."""
        super().__init__(settings, reader_config(settings), member=False, telemetry=telemetry, clock=clock)

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        """A topic that does not exist is a ``TransientFailure`` (``unknown_topic``)."""
        return self.facts.positions(topic)

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        """The offset that a start means is found here and now, so that ``Latest`` cannot move."""
        self.start(self.facts.offsets(starts))


class KafkaGroupReader:
    """One member."""

    def __init__(
        self, settings: KafkaSettings, group: str, *, member: str = "", telemetry: Telemetry, clock: Clock
    ) -> None:
        """``member``: a name that no other member of the group has. Raises ``ConfigError``. Connects in the
        background."""
        config = group_config(settings, group, member) | {"on_commit": self._take_answer}
        self._open = partial(LogConsumer, settings, config, member=True, telemetry=telemetry, clock=clock)
        self._consumer = self._open()
        self._clock = clock
        self._once_more_ns = 0
        """When the client was last replaced, on the monotonic clock; 0 when it never was."""
        self._topics: Sequence[str] = ()
        self._answer: tuple[KafkaError | None, list[TopicPartition]] | None = None
        self._fresh: Start = Earliest()
        self._pending: list[TopicPartition] = []
        """Partitions that the group assigned and that are not read yet."""
        self._committed: dict[Partition, int] = {}

    def subscribe(self, topics: Sequence[str], *, fresh: Start) -> None:
        self._topics, self._fresh = topics, fresh
        self._consumer.client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        if self._consumer.events.fatal:
            self._join_again()
        if self._pending:
            self._start_reading()
        return self._consumer.poll(timeout_s, limit=limit)

    def commit(self) -> None:
        """A partition that was revoked meanwhile is left out: it belongs to its next owner."""
        if self._consumer.events.fatal:
            self._join_again()
        offsets = [
            offset
            for offset in self._consumer.next_offsets.assignment()
            if self._committed.get((offset.topic, offset.partition)) != offset.offset
        ]
        if not offsets:
            return
        wanted = {(offset.topic, offset.partition): offset.offset for offset in offsets}
        self._answer = None
        try:
            # Not the synchronous call: without a coordinator it waits for one for ever.
            self._consumer.client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            raise unavailable("committing offsets", error) from error
        if not self._consumer.wait_for(lambda: self._answers(wanted), _ASK_S):
            raise TransientFailure("committing offsets: no answer in time", code="log_away")
        self._committed |= wanted

    def _join_again(self) -> None:
        """A broker that died and came back may take this member's own former client for another member of its name,
        and the client is then broken for good; a new one helps. Two members that really share a name would fence each
        other for ever: the one that is fenced again so soon gives up.

        Raises:
            PermanentFailure: ``member_fenced``.
        """
        now_ns = self._clock.monotonic_ns()
        if self._once_more_ns and now_ns - self._once_more_ns < _GIVE_UP_NS:
            raise PermanentFailure(
                "another member of the group has this one's name (`member`); give each its own", code="member_fenced"
            )
        self._once_more_ns = now_ns
        self._consumer.close()
        self._consumer = self._open()
        self._pending, self._committed = [], {}
        self.subscribe(self._topics, fresh=self._fresh)

    def _answers(self, wanted: dict[Partition, int]) -> bool:
        """Whether the group answered this commit, and not one before. Raises ``TransientFailure`` when it refused."""
        answer, self._answer = self._answer, None
        if answer is None:
            return False
        failure, partitions = answer
        if {(each.topic, each.partition): each.offset for each in partitions} != wanted:
            return False
        for error in (failure, *(each.error for each in partitions)):
            if error is not None:
                raise unavailable("committing offsets", KafkaException(error))
        return True

    def _take_answer(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._answer = (error, partitions)

    def close(self) -> None:
        """Leave the group. Idempotent."""
        self._consumer.close()

    # The callbacks run inside the client's poll, where an error has nowhere to go: they only take note, and the next
    # poll asks the cluster.

    def _assigned(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        client.assign([])
        self._consumer.forget()
        self._committed = {}
        self._pending = list(partitions)

    def _revoked(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        client.unassign()
        self._consumer.forget()
        self._pending = []

    def _start_reading(self) -> None:
        try:
            known = self._consumer.client.committed(self._pending, timeout=_ASK_S)
        except KafkaException as error:
            raise unavailable("the group's offsets", error) from error
        committed = {(each.topic, each.partition): each.offset for each in known if each.offset >= 0}
        starts: dict[LogPosition, Start] = {}
        for topic in sorted({each.topic for each in self._pending}):
            for position in self._consumer.facts.positions(topic):
                partition = (position.topic, position.partition)
                if partition in {(each.topic, each.partition) for each in self._pending}:
                    starts[position] = Offset(committed[partition]) if partition in committed else self._fresh
        self._consumer.start(self._consumer.facts.offsets(starts))
        self._committed = committed
        self._pending = []

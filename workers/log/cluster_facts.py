"""What a cluster knows of itself: brokers, partitions, log ids, offsets, and whether it answers at all.

Called by the readers, and by ``wiring`` for the port ``Network``. It asks over a connection of its own, because a
broker answers one connection's requests in turn and a parked fetch would hold a question up for the whole of
``fetch_wait_ms``. Must never create a topic.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from workers.domain.errors import TransientFailure
from workers.domain.ids import LogId
from workers.domain.log.record import Earliest, Latest, LogPosition, Offset, Since, Start
from workers.log.client_events import ClientEvents, could_not_open, unavailable
from workers.log.config import admin_config
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 5.0
"""Half of the ten seconds that ``LogReader.partitions`` may block, as it asks twice."""


_BROKERS_S: Final = 10.0


class ClusterFacts:
    """Questions to the cluster. The connection is made at the first one and kept until ``release``."""

    def __init__(self, settings: KafkaSettings, events: ClientEvents) -> None:
        self._settings = settings
        self._events = events
        self._open_client: AdminClient | None = None
        self.tells_logs_apart = not settings.log_id
        """Whether a recreated topic has another log id; a configured id is every topic's, for ever."""

    def positions(self, topic: str) -> tuple[LogPosition, ...]:
        """Every partition of a topic under its log's id.

        Raises ``TransientFailure`` (``log_away``, ``unknown_topic``).
        """
        log_id, count = self._configured(topic) if self._settings.log_id else self._described(topic)
        return tuple(LogPosition(log_id, topic, number) for number in range(count))

    def offsets(self, starts: Mapping[LogPosition, Start]) -> dict[LogPosition, int]:
        """The offset each start means now. Raises ``TransientFailure``."""
        found = {position: start.next_offset for position, start in starts.items() if isinstance(start, Offset)}
        since = {position: start.at_ns for position, start in starts.items() if isinstance(start, Since)}
        lows = self._ask(since.keys() | self._of(starts, Earliest), lambda _: OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        highs = self._ask(since.keys() | self._of(starts, Latest), lambda _: OffsetSpec.latest())  # type: ignore[no-untyped-call]
        # Rounded up: a record's time has milliseconds, and none older than the moment asked for is wanted.
        times = self._ask(since, lambda position: OffsetSpec.for_timestamp(-(-since[position] // 1_000_000)))
        unknown = [position for position, offset in times.items() if offset < 0 and lows[position] < highs[position]]
        # A broker that finds nothing even since 1970 in a log that holds something cannot look up by time: the
        # embedded one. One that can has only older records: begin behind them.
        first = self._ask(unknown, lambda _: OffsetSpec.for_timestamp(0))
        found |= {position: lows[position] for position in self._of(starts, Earliest)}
        found |= {position: highs[position] for position in self._of(starts, Latest)}
        for position, offset in times.items():
            blind = first.get(position, 0) < 0
            found[position] = offset if offset >= 0 else lows[position] if blind else highs[position]
        return found

    def answers(self, timeout_s: float) -> bool:
        """Whether a broker answers within that time."""
        try:
            self._client.list_topics(timeout=timeout_s)
        except KafkaException:
            return False
        return True

    def brokers(self) -> Sequence[tuple[str, int]]:
        """Host and port of every broker. Raises ``TransientFailure``."""
        try:
            found = self._client.list_topics(timeout=_BROKERS_S).brokers
        except KafkaException as error:
            raise unavailable("the log's brokers", error) from error
        return sorted((str(broker.host), broker.port) for broker in found.values())

    def release(self) -> None:
        """Give the connection up; the next question makes a new one."""
        self._open_client = None

    @property
    def _client(self) -> AdminClient:
        if self._open_client is None:
            try:
                self._open_client = AdminClient(admin_config(self._settings), logger=self._events)
            except KafkaException as error:
                raise could_not_open(error) from error
        return self._open_client

    def _configured(self, topic: str) -> tuple[LogId, int]:
        # All topics, not this one: asked for by name the embedded broker would make it.
        try:
            topics = self._client.list_topics(timeout=_ASK_S).topics
        except KafkaException as error:
            raise unavailable("the log's topics", error) from error
        if topic not in topics:
            raise TransientFailure(f"the log has no topic {topic}", code="unknown_topic")
        return LogId(self._settings.log_id), len(topics[topic].partitions)

    def _described(self, topic: str) -> tuple[LogId, int]:
        try:
            cluster = self._client.describe_cluster(request_timeout=_ASK_S).result(_ASK_S)
            described = self._client.describe_topics(TopicCollection([topic]), request_timeout=_ASK_S)
            found = described[topic].result(_ASK_S)
        except (KafkaException, TimeoutError) as error:
            raise unavailable(f"topic {topic}", error) from error
        return LogId(f"{cluster.cluster_id}/{found.topic_id}"), len(found.partitions)

    def _ask(
        self, positions: Iterable[LogPosition], spec: Callable[[LogPosition], OffsetSpec]
    ) -> dict[LogPosition, int]:
        by_partition = {(position.topic, position.partition): position for position in positions}
        if not by_partition:
            return {}
        asked = {TopicPartition(*partition): spec(position) for partition, position in by_partition.items()}
        try:
            answers = self._client.list_offsets(asked, request_timeout=_ASK_S)
            return {
                by_partition[partition.topic, partition.partition]: future.result(_ASK_S).offset
                for partition, future in answers.items()
            }
        except (KafkaException, TimeoutError) as error:
            raise unavailable("the log's offsets", error) from error

    @staticmethod
    def _of(starts: Mapping[LogPosition, Start], kind: type[Start]) -> set[LogPosition]:
        return {position for position, start in starts.items() if isinstance(start, kind)}


def brokers(settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> Sequence[tuple[str, int]]:
    """Host and port of every broker as the cluster names them: what a client must reach beside the bootstrap servers.

    Blocks up to 10 s.

    Raises:
        ConfigError: the settings cannot be used.
        TransientFailure: no broker answers.
    """
    return ClusterFacts(settings, ClientEvents(telemetry, clock)).brokers()

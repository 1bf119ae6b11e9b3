"""Makes a real cluster match the topic catalogue, and reports where it does not.

Called by ``douse topics`` (through ``wiring``) and by tests; calls Kafka's admin API, which the embedded broker does
not have. Must never delete a topic, nor change how many partitions or copies one has: keys would move, so a person
decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from workers.domain.errors import TransientFailure
from workers.domain.log.topic_spec import MIN_IN_SYNC, REPLICATION, ZONE, TopicSpec
from workers.log.client_events import ClientEvents, could_not_open, kafka_error, unavailable
from workers.log.config import admin_config
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 20.0
"""A cluster creates a dozen topics of 64 partitions in a few seconds."""


_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about a topic that is not as the catalogue wants it."""

    topic: str
    setting: str
    """``topic`` (it is missing), ``partitions``, ``replication``, or Kafka's name of a setting."""
    wanted: str
    found: str


_FIXED: Final = frozenset({"topic", "partitions", "replication"})
"""What no setting changes."""


class TopicAdmin:
    """The topics of one cluster."""

    def __init__(
        self, settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock, replication: int = REPLICATION
    ) -> None:
        """``replication`` is smaller only where there are fewer brokers. Raises ``ConfigError``."""
        self._replication = replication
        self._clock = clock
        try:
            self._client = AdminClient(admin_config(settings), logger=ClientEvents(telemetry, clock))
        except KafkaException as error:
            raise could_not_open(error) from error

    def create(self, specs: Iterable[TopicSpec], *, zones: Sequence[str]) -> tuple[str, ...]:
        """Make the topics that are missing; their names. Doing it again is safe.

        Raises ``TransientFailure`` when the cluster is unreachable or refuses one; those made before stay. On return
        the cluster answers for all of them.
        """
        wanted = self._wanted(specs, zones)
        new = [
            NewTopic(name, spec.partitions, self._replication, config=dict(self._config(spec)))
            for name, spec in wanted.items()
        ]
        made = []
        for name, future in self._client.create_topics(new, operation_timeout=_ASK_S).items():
            try:
                future.result(_ASK_S)
                made.append(name)
            except (KafkaException, TimeoutError) as error:
                cause = kafka_error(error)
                if cause is None or cause.name() != "TOPIC_ALREADY_EXISTS":
                    raise unavailable(f"topic {name}", error) from error
        self._await_known(made)
        return tuple(sorted(made))

    def differences(self, specs: Iterable[TopicSpec], *, zones: Sequence[str]) -> tuple[Difference, ...]:
        """Where the cluster is not as the catalogue wants it. Raises ``TransientFailure`` when it is unreachable."""
        wanted = self._wanted(specs, zones)
        found: list[Difference] = []
        for name, shape in self._shapes(wanted).items():
            spec = wanted[name]
            if shape is None:
                found.append(Difference(name, "topic", "present", "missing"))
                continue
            partitions, replication = shape
            if partitions != spec.partitions:
                found.append(Difference(name, "partitions", str(spec.partitions), str(partitions)))
            if replication != self._replication:
                found.append(Difference(name, "replication", str(self._replication), str(replication)))
            found += self._settings_that_differ(name, spec)
        return tuple(sorted(found, key=lambda difference: (difference.topic, difference.setting)))

    def alter(self, differences: Iterable[Difference]) -> tuple[Difference, ...]:
        """Give topics that are there the settings that were found to differ; those that are settings at all.

        Doing it again is safe. Raises ``TransientFailure`` when the cluster is unreachable or refuses; what was altered
        before stays.
        """
        altered = tuple(each for each in differences if each.setting not in _FIXED)
        wanted: dict[str, list[Difference]] = {}
        for each in altered:
            wanted.setdefault(each.topic, []).append(each)
        for topic, found in wanted.items():
            entries = [
                ConfigEntry(each.setting, each.wanted, incremental_operation=AlterConfigOpType.SET) for each in found
            ]
            asked = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
            try:
                self._client.incremental_alter_configs([asked], request_timeout=_ASK_S)[asked].result(_ASK_S)
            except (KafkaException, TimeoutError) as error:
                raise unavailable(f"the settings of topic {topic}", error) from error
        return altered

    def _await_known(self, made: Sequence[str]) -> None:
        """A broker learns a moment later of a topic that its controller has just made."""
        until_ns = self._clock.monotonic_ns() + round(_ASK_S * 1e9)
        while made and None in self._shapes(made).values():
            if self._clock.monotonic_ns() > until_ns:
                raise TransientFailure(f"the cluster made {len(made)} topics and does not know them yet")
            self._clock.sleep(_POLL_S)

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has; 0 where there is none. Raises ``TransientFailure`` when it is
        unreachable."""
        shape = self._shapes([topic])[topic]
        return shape[0] if shape is not None else 0

    def _shapes(self, names: Iterable[str]) -> dict[str, tuple[int, int] | None]:
        """Partitions and replicas of each topic; None where there is none."""
        shapes: dict[str, tuple[int, int] | None] = {}
        for name, future in self._client.describe_topics(TopicCollection(list(names)), request_timeout=_ASK_S).items():
            try:
                partitions = future.result(_ASK_S).partitions
            except (KafkaException, TimeoutError) as error:
                failure = unavailable(f"topic {name}", error)
                if failure.reason != "unknown_topic":
                    raise failure from error
                shapes[name] = None
            else:
                shapes[name] = len(partitions), min(len(partition.replicas) for partition in partitions)
        return shapes

    def _settings_that_differ(self, name: str, spec: TopicSpec) -> list[Difference]:
        asked = ConfigResource(ResourceType.TOPIC, name)
        try:
            answer = self._client.describe_configs([asked], request_timeout=_ASK_S)[asked].result(_ASK_S)
        except (KafkaException, TimeoutError) as error:
            raise unavailable(f"the settings of topic {name}", error) from error
        return [
            Difference(name, key, value, str(answer[key].value) if key in answer else "unknown")
            for key, value in self._config(spec).items()
            if key not in answer or str(answer[key].value) != value
        ]

    def _config(self, spec: TopicSpec) -> Mapping[str, str]:
        in_sync = min(MIN_IN_SYNC, self._replication)
        return {**spec.kafka_config(), "min.insync.replicas": str(in_sync)}

    @staticmethod
    def _wanted(specs: Iterable[TopicSpec], zones: Sequence[str]) -> dict[str, TopicSpec]:
        return {spec.name_in(zone): spec for spec in specs for zone in (zones if ZONE in spec.name else ("",))}

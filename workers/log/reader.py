"""``LogReader`` on Kafka: reads the partitions it is told to, from where it is told to; the caller keeps the offsets.

Made by ``wiring`` for node, dispatcher and projector; one thread uses it. Must never commit an offset.
"""

from collections.abc import Mapping, Sequence

from workers.domain.log.record import Delivery, LogPosition, Start
from workers.log.config import reader_config
from workers.log.consumption import Consumption
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry


class KafkaLogReader:
    """One consumer that is no member of a group."""

    def __init__(self, settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> None:
        """Raises ``ConfigError``. Connects in the background: a broker that is away is no error yet."""
        config = reader_config(settings)
        self._consumption = Consumption(settings, config, member=False, telemetry=telemetry, clock=clock)

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        """As ``LogReader.partitions``; a topic that is not there is a ``TransientFailure`` (``unknown_topic``)."""
        return self._consumption.facts.positions(topic)

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        """As ``LogReader.assign``. What a start means is settled here and now, so that ``Latest`` cannot slip."""
        self._consumption.start(self._consumption.facts.offsets(starts))

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """As ``LogReader.poll``."""
        return self._consumption.poll(timeout_s, limit)

    def close(self) -> None:
        """Idempotent."""
        self._consumption.close()

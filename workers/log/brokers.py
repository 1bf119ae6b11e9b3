"""The brokers of the cluster as it names them itself: what a client must reach beside the bootstrap servers.

Called by ``wiring`` for the port ``Network``. Asks over a connection of its own, and gives it up again.
"""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from workers.log.client_events import ClientEvents
from workers.log.config import admin_config
from workers.log.failures import away, could_not_open
from workers.settings import KafkaSettings
from workers.system.ports import Clock, Telemetry

_ASK_S: Final = 10.0


def brokers(settings: KafkaSettings, *, telemetry: Telemetry, clock: Clock) -> Sequence[tuple[str, int]]:
    """Host and port of every broker. Blocks up to 10 s.

    Raises:
        ConfigError: the settings cannot be used.
        TransientFailure: no broker answers.
    """
    try:
        client = AdminClient(admin_config(settings), logger=ClientEvents(telemetry, clock))
    except KafkaException as error:
        raise could_not_open(error) from error
    try:
        found = client.list_topics(timeout=_ASK_S).brokers
    except KafkaException as error:
        raise away("the log's brokers", error) from error
    return sorted((str(broker.host), broker.port) for broker in found.values())

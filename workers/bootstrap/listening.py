"""What an audit consumer needs to listen to the log: a reader, and what turns bytes into verified records.

Called by ``douse tail``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.core.errors import ConfigError

if TYPE_CHECKING:
    from workers.ports import Codec, EventReader, LogReader, Opener


@dataclass(frozen=True, slots=True)
class Listening:
    """Ready to read; nothing is committed, nobody notices."""

    reader: "LogReader"
    codec: "Codec"
    events: "EventReader"
    opener: "Opener | None"
    """None where no keyset is known: nothing can be verified then."""


def listening(config: Path) -> Listening:
    """A listener with the brokers and the keyset of any worker's settings file.

    Raises:
        ConfigError: the file, its ``kafka`` part or the keyset cannot be used.
    """
    from workers.adapters.avro import AvroCodec
    from workers.adapters.clock import SystemClock
    from workers.adapters.falco import DetectorEvents
    from workers.adapters.kafka.reader import KafkaLogReader
    from workers.adapters.keys import load_keyset
    from workers.adapters.signing import EnvelopeOpener
    from workers.adapters.telemetry import quiet
    from workers.adapters.yaml_files import read_mapping
    from workers.settings import KafkaSettings, parse

    content = read_mapping(config)
    kafka = content.get("kafka")
    if not isinstance(kafka, dict):
        raise ConfigError(f"{config}: kafka is missing; name a worker's settings file")
    clock, codec = SystemClock(), AvroCodec()
    reader = KafkaLogReader(parse(KafkaSettings, kafka), telemetry=quiet(), clock=clock)
    keys = content.get("keys")
    named = keys.get("keyset") if isinstance(keys, dict) else None
    opener = EnvelopeOpener(load_keyset(Path(named)), codec, clock=clock) if isinstance(named, str) else None
    return Listening(reader, codec, DetectorEvents(codec), opener)

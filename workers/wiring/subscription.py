"""What an audit consumer needs to listen to the log: a reader, and what turns bytes into verified records.

Called by ``douse tail``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.domain.errors import ConfigError

if TYPE_CHECKING:
    from workers.log.ports import LogReader
    from workers.wire.ports import Codec, EventReader, RecordVerifier


@dataclass(frozen=True, slots=True)
class Listening:
    """Ready to read; nothing is committed, and no worker notices."""

    reader: "LogReader"
    codec: "Codec"
    events: "EventReader"
    verifier: "RecordVerifier | None"
    """None where no keyset is known: nothing can be verified then."""


def listening(config: Path) -> Listening:
    """A listener with the brokers and the keyset of any worker's settings file.

    Raises:
        ConfigError: the file, its ``kafka`` part or the keyset cannot be used.
    """
    from workers.log.readers import KafkaLogReader
    from workers.settings import KafkaSettings, parse
    from workers.system.clock import SystemClock
    from workers.system.telemetry import quiet
    from workers.system.yaml_files import read_mapping
    from workers.wire.avro import AvroCodec
    from workers.wire.event_reader import DetectorEvents
    from workers.wire.keys import NewestKeyset
    from workers.wire.signing import EnvelopeVerifier

    content = read_mapping(config)
    kafka = content.get("kafka")
    if not isinstance(kafka, dict):
        raise ConfigError(f"{config}: kafka is missing; name a worker's settings file")
    clock, codec = SystemClock(), AvroCodec()
    reader = KafkaLogReader(parse(KafkaSettings, kafka), telemetry=quiet(), clock=clock)
    keys = content.get("keys")
    named = keys.get("keyset") if isinstance(keys, dict) else None
    verifier = None
    if isinstance(keys, dict) and isinstance(named, str):
        kept = keys.get("newest")
        keyset = NewestKeyset(Path(named), Path(kept) if isinstance(kept, str) else None).keyset
        verifier = EnvelopeVerifier(keyset, codec, clock=clock)
    return Listening(reader, codec, DetectorEvents(codec, verifier), verifier)

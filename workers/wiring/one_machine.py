"""What one machine needs beside its workers: keys for itself, a broker inside the process, and the demo's intruder.

Called by ``douse up`` and ``douse demo``.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.domain.ids import NodeId
from workers.domain.log.routing import command_topic
from workers.domain.log.topic_spec import ZONE
from workers.domain.trust.keyset import KeyRole
from workers.host.processes.ports import Processes
from workers.log.ports import LogReader, LogWriter
from workers.wire.ports import Codec, RecordSigner

if TYPE_CHECKING:
    from workers.settings import KafkaSettings


def one_machine_keys(directory: Path) -> NodeId:
    """The node that a machine's keys are for; keys and node are made at the first start.

    Raises:
        ConfigError: the directory holds something that is not a key set of Douse.
    """
    from workers.system.clock import SystemClock
    from workers.wire.keys import ensure_keys, load_keyset

    keyset_file = directory / "keyset.json"
    known = load_keyset(keyset_file).keys.values() if keyset_file.exists() else ()
    owners = [key.owner for key in known if key.role is KeyRole.NODE and not key.revoked]
    node_id = NodeId(owners[0] if owners else os.urandom(16).hex())
    ensure_keys(directory, now_ns=SystemClock().now_ns(), nodes={"node": node_id})
    return node_id


@contextmanager
def embedded_broker(zones: Mapping[str, int]) -> Iterator[str]:
    """A broker inside this process with every topic of the catalogue; its addresses.

    Raises:
        ConfigError, PermanentFailure: this build of the client library has no broker, or it cannot listen.
    """
    from workers.log.embedded import EmbeddedBroker
    from workers.log.topic_catalogue import load_topics

    topics = {topic.name: topic.partitions for topic in load_topics() if ZONE not in topic.name}
    topics |= {command_topic(zone): partitions for zone, partitions in zones.items()}
    with EmbeddedBroker(topics) as broker:
        yield broker.bootstrap_servers


def local_processes() -> Processes:
    """The processes of this machine."""
    from workers.host.processes.system import SystemProcesses

    return SystemProcesses()


@dataclass(frozen=True, slots=True)
class Intruder:
    """What an intruder has that can reach the broker and knows the formats, but has no trusted key."""

    writer: LogWriter
    reader: LogReader
    codec: Codec
    signer: RecordSigner


@contextmanager
def intruder(kafka: "KafkaSettings") -> Iterator[Intruder]:
    """An intruder on this bus, for the demo and for tests."""
    from workers.log.readers import KafkaLogReader
    from workers.log.writer import KafkaLogWriter
    from workers.system.clock import SystemClock
    from workers.system.telemetry import quiet
    from workers.wire.avro import AvroCodec
    from workers.wire.signing import EnvelopeSigner, PrivateKey

    codec, clock, telemetry = AvroCodec(), SystemClock(), quiet()
    writer = KafkaLogWriter(kafka, telemetry=telemetry, clock=clock)
    reader = KafkaLogReader(kafka, telemetry=telemetry, clock=clock)
    try:
        yield Intruder(writer, reader, codec, EnvelopeSigner(PrivateKey.generate(), codec))
    finally:
        reader.close()
        writer.close()

"""Settings as librdkafka names them, for each kind of client.

Called by the readers, the writer and the admin clients of this package; reads the password file. Must never log what it
returns: the password is in it.
"""

from pathlib import Path
from typing import Any, Final, TypeAlias

from workers.domain.errors import ConfigError, Problem
from workers.settings import KafkaSecurity, KafkaSettings

ClientConfig: TypeAlias = dict[str, Any]

MAX_RECORD_BYTES: Final = 1_000_000
"""librdkafka's default for ``message.max.bytes``; below Kafka's own 1,048,588 by enough for a batch's header."""

_READER_GROUP: Final = "douse-reader"
"""librdkafka wants a group's name even from a reader that is no member of one; nothing is ever committed under it."""


def writer_config(settings: KafkaSettings) -> ClientConfig:
    """An idempotent producer that never gives up a record by itself: what was not acknowledged is retried in order
    for as long as the process lives, because the outbox would only send it again, and later."""
    return _client(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "message.max.bytes": MAX_RECORD_BYTES,
        # Measured on the embedded broker, one record at a time: acknowledged after 0.15, 1.2 and 5.2 ms with 0, 1 and
        # 5 ms of linger. A burst fills its batches anyway, while the request before it is under way.
        "linger.ms": 0,
        # A topic just made is known everywhere within a second; after this one that does not exist is reported.
        "topic.metadata.propagation.max.ms": 5_000,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 65_536,
        # Java's default partitioner, so that every client finds a key in the same partition: see domain.log.routing.
        "partitioner": "murmur2_random",
    }


def reader_config(settings: KafkaSettings) -> ClientConfig:
    """A consumer of assigned partitions."""
    return _consumer(settings, _READER_GROUP) | {
        # Ten thousand nodes that ask for metadata every five minutes are 1.4 GB/s in a large cluster; a
        # leader that moved is noticed by the error it answers, not by this.
        "topic.metadata.refresh.interval.ms": 900_000,
    }


def group_config(settings: KafkaSettings, group: str, member: str = "") -> ClientConfig:
    """A consumer that is a member of a group; under a name of its own where ``member`` is given."""
    config = _consumer(settings, group)
    if settings.log_id:
        # The embedded broker lets a killed member's successor wait for this and its own rebalance on top (2 to 5 s
        # measured, 5 to 11 s with 6 s), and longer still when it comes back under a name.
        return config | {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 750}
    # The least a broker allows by default: a member that was killed is replaced after this. One with a name that is
    # back before gets its partitions at once: measured, 0.2 s to its first record instead of 5.3 s.
    named = {"group.instance.id": member} if member else {}
    return config | named | {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_500}


def admin_config(settings: KafkaSettings) -> ClientConfig:
    """A client that only asks."""
    return _client(settings)


def _consumer(settings: KafkaSettings, group: str) -> ClientConfig:
    return _client(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that is gone is an event of its own (a Gap), never a silent jump.
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        # The only sign of a recreated topic whose end is where the old one was read to: see LogConsumer.
        "enable.partition.eof": True,
        "fetch.wait.max.ms": settings.fetch_wait_ms,
        "queued.max.messages.kbytes": 2_048,
        # A full queue (a few large records) is emptied in milliseconds; librdkafka's own 1,000 would let a kill wait
        # for a second behind it.
        "fetch.queue.backoff.ms": 10,
    }


def _client(settings: KafkaSettings) -> ClientConfig:
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": "douse",
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        # A broker is back within its restart, not within librdkafka's 10 s; jitter spreads the nodes.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2_000,
        "security.protocol": settings.security.protocol,
    } | _credentials(settings.security)


def _credentials(security: KafkaSecurity) -> ClientConfig:
    if security.protocol == "PLAINTEXT":
        return {}
    config: ClientConfig = {}
    for key, name in (
        ("ssl.ca.location", "ca_file"),
        ("ssl.certificate.location", "certificate_file"),
        ("ssl.key.location", "key_file"),
    ):
        path: Path | None = getattr(security, name)
        if path is not None:
            _read(path, name)
            config[key] = str(path)
    if security.protocol == "SASL_SSL":
        config |= _sasl(security)
    return config


def _sasl(security: KafkaSecurity) -> ClientConfig:
    if security.mechanism == "OAUTHBEARER":
        raise _problem("mechanism", "OAUTHBEARER has no token source yet; use SCRAM-SHA-512, or SSL with a certificate")
    if not security.username or security.password_file is None:
        raise _problem("username" if not security.username else "password_file", "is needed for SASL_SSL")
    password = _read(security.password_file, "password_file").decode("utf-8", "replace").rstrip("\r\n")
    return {
        "sasl.mechanism": security.mechanism,
        "sasl.username": security.username,
        "sasl.password": password,
    }


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _problem(name, f"cannot read {path}: {error.strerror}") from error


def _problem(name: str, reason: str) -> ConfigError:
    return ConfigError((Problem(f"kafka.security.{name}", reason),))

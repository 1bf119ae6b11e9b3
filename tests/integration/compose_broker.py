"""docker-compose.yml's broker on this machine's loopback, and the keys of its `prepare` service.

For tests: only addresses and directories differ from what compose starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.cluster import free_ports
from tests.kafka.distribution import Distribution
from tests.kafka.node import Address, KafkaNode

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
_STARTED_WITHIN_S = 60


@contextmanager
def compose_broker(distribution: Distribution, keys: Path, directory: Path) -> Iterator[str]:
    """Yields host:port."""
    client, controller = free_ports("127.0.0.1", 2)
    node = KafkaNode(
        distribution,
        directory,
        address=Address(1, "localhost", client, controller),
        properties=_moved(keys / "kafka", directory / "data", client=client, controller=controller),
    )
    try:
        node.format("douse-compose-test-log")
        node.start()
        _await(f"localhost:{client}", keys / "operator", node)
        yield f"localhost:{client}"
    finally:
        node.close()


def _moved(keys: Path, data: Path, *, client: int, controller: int) -> Mapping[str, str]:
    text = (COMPOSE / "kafka.properties").read_text()
    for there, here in (
        ("/run/douse/keys", str(keys)),
        ("/var/lib/kafka/data", str(data)),
        ("@kafka:9093", f"@localhost:{controller}"),
        ("0.0.0.0:9092", f"127.0.0.1:{client}"),
        ("0.0.0.0:9093", f"127.0.0.1:{controller}"),
        ("//kafka:9092", f"//localhost:{client}"),
    ):
        assert there in text
        text = text.replace(there, here)
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def admin_of(server: str, keys: Path, *, certificate: bool = True) -> AdminClient:
    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": server,
        "security.protocol": "SSL",
        "ssl.ca.location": str(keys / "ca.pem"),
        "log_level": 0,
    }
    if certificate:
        settings |= {"ssl.certificate.location": str(keys / "tls.pem"), "ssl.key.location": str(keys / "tls.key")}
    return AdminClient(settings)


def _await(server: str, keys: Path, node: KafkaNode) -> None:
    deadline = time.monotonic() + _STARTED_WITHIN_S
    while not _answers(admin_of(server, keys)):
        assert node.running, node.log_tail()
        assert time.monotonic() < deadline, node.log_tail()


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return False

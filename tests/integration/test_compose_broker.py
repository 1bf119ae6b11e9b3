"""A real broker with compose's kafka.properties lets in who has a certificate, and grants nobody anything unasked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.test_compose_prepare import prepare
from tests.kafka.cluster import free_ports
from tests.kafka.distribution import Distribution
from tests.kafka.node import Address, KafkaNode

_COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
_STARTED_WITHIN_S = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    prepare(made)
    return made


@pytest.fixture(scope="module")
def broker(kafka_distribution: Distribution, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """compose's broker on this machine's loopback: only addresses and directories differ. Yields host:port."""
    directory = tmp_path_factory.mktemp("broker") / "node"
    client, controller = free_ports("127.0.0.1", 2)
    node = KafkaNode(
        kafka_distribution,
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
    text = (_COMPOSE / "kafka.properties").read_text()
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


def _admin(server: str, keys: Path, *, certificate: bool = True) -> AdminClient:
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
    while not _answers(_admin(server, keys)):
        assert node.running, node.log_tail()
        assert time.monotonic() < deadline, node.log_tail()


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def test_the_operator_may_create_a_topic(broker: str, keys: Path) -> None:
    admin = _admin(broker, keys / "operator")
    admin.create_topics([NewTopic("response.audit", 1, 1)])["response.audit"].result(20)
    assert "response.audit" in admin.list_topics(timeout=20).topics


@pytest.mark.parametrize("worker", ["node", "dispatcher", "responder", "projector", "gateway"])
def test_a_worker_may_do_nothing_that_no_rule_grants(worker: str, broker: str, keys: Path) -> None:
    admin = _admin(broker, keys / worker)
    assert not admin.list_topics(timeout=20).topics
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        admin.create_topics([NewTopic(f"of.{worker}", 1, 1)])[f"of.{worker}"].result(20)


def test_who_has_no_certificate_is_not_let_in(broker: str, keys: Path) -> None:
    with pytest.raises(KafkaException):
        _admin(broker, keys / "node", certificate=False).list_topics(timeout=5)

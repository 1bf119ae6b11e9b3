"""A real broker with compose's kafka.properties lets in who has a certificate, and grants nobody anything unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.cimpl import NewTopic

from tests.integration.compose_broker import admin_of, compose_broker
from tests.integration.test_compose_prepare import prepare
from tests.kafka.distribution import Distribution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    prepare(made)
    return made


@pytest.fixture(scope="module")
def broker(kafka_distribution: Distribution, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with compose_broker(kafka_distribution, keys, tmp_path_factory.mktemp("broker") / "node") as server:
        yield server


def test_the_operator_may_create_a_topic(broker: str, keys: Path) -> None:
    admin = admin_of(broker, keys / "operator")
    admin.create_topics([NewTopic("response.audit", 1, 1)])["response.audit"].result(20)
    assert "response.audit" in admin.list_topics(timeout=20).topics


@pytest.mark.parametrize("worker", ["node", "dispatcher", "responder", "projector", "gateway"])
def test_a_worker_may_do_nothing_that_no_rule_grants(worker: str, broker: str, keys: Path) -> None:
    admin = admin_of(broker, keys / worker)
    assert not admin.list_topics(timeout=20).topics
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        admin.create_topics([NewTopic(f"of.{worker}", 1, 1)])[f"of.{worker}"].result(20)


def test_who_has_no_certificate_is_not_let_in(broker: str, keys: Path) -> None:
    with pytest.raises(KafkaException):
        admin_of(broker, keys / "node", certificate=False).list_topics(timeout=5)

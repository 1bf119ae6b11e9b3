"""Fixtures that hand a real Kafka to a test.

Imported by `tests/conftest.py`; calls `assemble.py` and `cluster.py`. They must never let a test pass without
a broker: a machine that can't have one skips with the reason, and fails under CI.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import pytest

from tests.components import require
from tests.kafka.assemble import assemble
from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import SMALL_JVM, Distribution, KafkaUnavailable
from tests.kafka.external import ExternalKafka
from tests.kafka.target import KafkaTarget, unique_topic


class StartKafka(Protocol):
    """Starts one more cluster, which ends with the test."""

    def __call__(
        self,
        *,
        nodes: int = 1,
        host: str = "127.0.0.1",
        overrides: Mapping[str, str] | None = None,
        jvm: Sequence[str] = SMALL_JVM,
    ) -> KafkaCluster: ...


@pytest.fixture(scope="session")
def kafka_distribution() -> Distribution:
    """Kafka's jars and a Java; fetched now if `make kafka` didn't."""
    try:
        return assemble()
    except KafkaUnavailable as error:
        require("a real Kafka", str(error), present=False)
        raise


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaTarget]:
    """One real broker for the whole run, or the cluster that DOUSE_TEST_KAFKA names. Use topics of your own."""
    existing = os.environ.get("DOUSE_TEST_KAFKA")
    if existing:
        yield ExternalKafka(existing)
        return
    with KafkaCluster(request.getfixturevalue("kafka_distribution")) as cluster:
        yield cluster


@pytest.fixture
def killable_kafka(kafka: KafkaTarget) -> Iterator[KafkaCluster]:
    """The broker of the run, to be killed, paused, restarted; it is made whole again after the test."""
    if not isinstance(kafka, KafkaCluster):
        pytest.skip("DOUSE_TEST_KAFKA names somebody else's cluster: this test kills its broker")
    yield kafka
    kafka.heal()


@pytest.fixture
def start_kafka(request: pytest.FixtureRequest) -> Iterator[StartKafka]:
    """Start a cluster of your own (`nodes=3` for leader changes); all of them end with the test."""
    started: list[KafkaCluster] = []

    def start(
        *,
        nodes: int = 1,
        host: str = "127.0.0.1",
        overrides: Mapping[str, str] | None = None,
        jvm: Sequence[str] = SMALL_JVM,
    ) -> KafkaCluster:
        if os.environ.get("DOUSE_TEST_KAFKA"):
            pytest.skip("DOUSE_TEST_KAFKA names somebody else's cluster: this test needs one that it may hurt")
        distribution: Distribution = request.getfixturevalue("kafka_distribution")
        cluster = KafkaCluster(distribution, nodes=nodes, host=host, overrides=overrides, jvm=jvm)
        started.append(cluster)
        return cluster.start()

    yield start
    for cluster in started:
        cluster.stop()


@pytest.fixture
def new_topic(kafka: KafkaTarget) -> Iterator[Callable[..., str]]:
    """Create a topic under a name of its own on the broker of the run; deleted after the test."""
    made: list[str] = []

    def create(stem: str, partitions: int = 1, **config: str) -> str:
        topic = unique_topic(stem)
        kafka.create_topic(topic, partitions, **config)
        made.append(topic)
        return topic

    yield create
    for topic in made:
        kafka.delete_topic(topic)

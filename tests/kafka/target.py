"""What a test may ask of any Kafka, ours or somebody else's.

Called by tests; `cluster.py` and `external.py` build on it; calls confluent-kafka's admin client. It must never
start or end a process.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import NewTopic

T = TypeVar("T")

# Reconnect quickly: a test waits for a broker that is about to come, not for one in production that is overloaded.
CLIENT_SETTINGS: Mapping[str, str | int] = {
    "log_level": 0,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 200,
    "socket.timeout.ms": 10_000,
}


class KafkaTarget:
    """A reachable cluster, with the few administrative questions that tests ask."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin: AdminClient | None = None

    def client_settings(self, **more: str | float | bool) -> dict[str, str | int | float | bool]:
        """Settings for a confluent-kafka client on this cluster; keys are given with underscores for dots."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **CLIENT_SETTINGS,
            **{key.replace("_", "."): value for key, value in more.items()},
        }

    @property
    def admin(self) -> AdminClient:
        """One admin client for the life of the target: it must outlive the futures it hands out."""
        if self._admin is None:
            self._admin = AdminClient(self.client_settings())
        return self._admin

    def metadata(self, topic: str | None = None) -> ClusterMetadata:
        """The cluster as one of its brokers sees it. Raises KafkaException when none answers within 5 s."""
        return self.admin.list_topics(topic, timeout=5) if topic else self.admin.list_topics(timeout=5)

    @property
    def cluster_id(self) -> str:
        return str(self.metadata().cluster_id)

    def topic_id(self, topic: str) -> str:
        """The id the cluster gave to this incarnation of the topic; another one after delete and create."""
        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(timeout=10)
        return str(described.topic_id)

    def create_topic(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Create a topic with the cluster's own replication and wait until every partition has a leader."""
        new = NewTopic(topic, partitions, config={key.replace("_", "."): value for key, value in config.items()})
        self.admin.create_topics([new], operation_timeout=10)[topic].result(timeout=20)
        self.eventually(
            lambda: all(self.leader_of(topic, p) is not None for p in range(partitions)), f"no leader for {topic}"
        )

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and wait until the cluster has forgotten it."""
        self.admin.delete_topics([topic], operation_timeout=10)[topic].result(timeout=20)
        self.eventually(lambda: topic not in self.metadata().topics, f"{topic} is still there")

    def leader_of(self, topic: str, partition: int = 0) -> int | None:
        """The node that leads the partition; None while there is none."""
        found = self.metadata(topic).topics[topic].partitions.get(partition)
        return None if found is None or found.leader < 0 else found.leader

    def eventually(self, found: Callable[[], T | None], otherwise: str, *, within_s: float = 30) -> T:
        """Ask again until the answer is true. A cluster that doesn't answer counts as "not yet"."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                answer = found()
            except KafkaException as error:
                answer, otherwise = None, f"{otherwise.partition(' (')[0]} ({error})"
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise}, waited {within_s} s")
            time.sleep(0.05)


def unique_topic(stem: str) -> str:
    """A topic name that no other test, run or machine uses."""
    return f"douse-test.{stem}.{uuid.uuid4().hex[:12]}"

"""The real broker keeps what it acknowledged: killed and restarted, its leader killed, its process paused."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution
from tests.kafka.external import ExternalKafka, NotStartedHere
from tests.kafka.fixtures import StartKafka
from tests.kafka.target import KafkaTarget, unique_topic

pytestmark = [pytest.mark.slow]


def test_every_topic_has_an_id_that_a_new_incarnation_does_not_share(
    kafka: KafkaTarget, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("identity")
    first = kafka.topic_id(topic)
    assert first == kafka.topic_id(topic)
    kafka.delete_topic(topic)
    kafka.create_topic(topic)
    assert kafka.topic_id(topic) != first


def test_two_clusters_have_two_ids_and_a_restart_keeps_its_own(
    killable_kafka: KafkaCluster, start_kafka: StartKafka
) -> None:
    before = killable_kafka.cluster_id
    assert start_kafka().cluster_id != before
    killable_kafka.restart()
    assert killable_kafka.cluster_id == before


def test_asking_for_an_unknown_topic_does_not_create_it(kafka: KafkaTarget) -> None:
    name = unique_topic("never-made")
    error = kafka.metadata(name).topics[name].error
    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert name not in kafka.metadata().topics


def test_acknowledged_records_survive_the_death_of_the_only_broker(
    killable_kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("survivor")
    acknowledged = Acknowledged(killable_kafka, topic)
    acknowledged.produce(range(500))
    dead = killable_kafka.nodes[1].pid
    killable_kafka.kill()
    assert not Path(f"/proc/{dead}").exists()
    acknowledged.offer(range(500, 600))  # nobody is there: these wait in the producer
    killable_kafka.restart()
    acknowledged.settle()
    assert acknowledged.values == list(range(600))
    assert read_all(killable_kafka, topic) == acknowledged.values


def test_a_paused_broker_answers_when_it_is_resumed(
    killable_kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    acknowledged = Acknowledged(killable_kafka, new_topic("paused"))
    acknowledged.produce(range(10))
    killable_kafka.pause()
    acknowledged.offer(range(10, 20))
    assert acknowledged.producer.flush(1.0) == 10
    killable_kafka.resume()
    acknowledged.settle()
    assert acknowledged.values == list(range(20))


@pytest.mark.timeout(240)
def test_when_the_leader_is_killed_another_leads_and_has_every_acknowledged_record(start_kafka: StartKafka) -> None:
    cluster = start_kafka(nodes=3)
    topic = unique_topic("leader")
    cluster.create_topic(topic)
    acknowledged = Acknowledged(cluster, topic)
    acknowledged.produce(range(500))
    leader = cluster.leader_of(topic)
    assert leader is not None
    acknowledged.offer(range(500, 1000))
    cluster.kill(leader)
    successor = cluster.eventually(
        lambda: found if (found := cluster.leader_of(topic)) != leader else None, f"nobody took over from {leader}"
    )
    assert successor in {1, 2, 3} - {leader}
    acknowledged.settle()
    assert acknowledged.values == list(range(1000))
    assert read_all(cluster, topic) == acknowledged.values
    cluster.restart(leader)
    cluster.wait_ready()
    assert read_all(cluster, topic) == acknowledged.values


def test_a_cluster_that_the_tests_did_not_start_is_never_damaged(kafka: KafkaTarget) -> None:
    theirs = ExternalKafka(kafka.bootstrap_servers)
    assert theirs.cluster_id == kafka.cluster_id
    for violence in (theirs.kill, theirs.pause, theirs.resume, theirs.restart):
        with pytest.raises(NotStartedHere, match="DOUSE_TEST_KAFKA names a cluster"):
            violence()


def test_a_broker_ends_when_the_process_that_started_it_is_killed(
    kafka_distribution: Distribution, tmp_path: Path
) -> None:
    code = (
        "import sys, time\n"
        "from tests.kafka.assemble import assemble\n"
        "from tests.kafka.cluster import KafkaCluster\n"
        "cluster = KafkaCluster(assemble()).start()\n"
        "print(cluster.nodes[1].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "DOUSE_TEST_KAFKA_HOME": str(kafka_distribution.libs.parent)}
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, env=environment, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        broker = os.pidfd_open(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    try:
        assert ended(broker, within_s=10)
    finally:
        os.close(broker)


class Acknowledged:
    """A producer as Douse's are (idempotent, acks=all) and the values that the broker acknowledged, in order."""

    def __init__(self, kafka: KafkaTarget, topic: str) -> None:
        self.topic = topic
        self.values: list[int] = []
        self.producer = Producer(kafka.client_settings(enable_idempotence=True, acks="all", linger_ms=1))

    def offer(self, values: range) -> None:
        for value in values:
            self.producer.produce(self.topic, value=str(value).encode(), partition=0, on_delivery=self._delivered)
        self.producer.poll(0)

    def produce(self, values: range) -> None:
        self.offer(values)
        self.settle()

    def settle(self) -> None:
        assert self.producer.flush(60) == 0, "not every record was acknowledged within 60 s"

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, str(error)
        value = message.value()
        assert value is not None
        self.values.append(int(value))


def read_all(kafka: KafkaTarget, topic: str) -> list[int]:
    """Every value of partition 0 from the log's start to its end."""
    consumer = Consumer(kafka.client_settings(group_id=unique_topic("reader"), enable_auto_commit=False))
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
        consumer.assign([TopicPartition(topic, 0, 0)])
        values: list[int] = []
        deadline = time.monotonic() + 30
        next_offset = 0
        while next_offset < end:
            assert time.monotonic() < deadline, f"read {next_offset} of {end} records in 30 s"
            message = consumer.poll(1.0)
            if message is None or message.error():
                continue
            values.append(int(message.value() or b""))
            next_offset = (message.offset() or 0) + 1
        return values
    finally:
        consumer.close()


def ended(process: int, *, within_s: float) -> bool:
    """True once the process behind this pidfd is gone; its descriptor becomes readable."""
    return bool(select.select([process], [], [], within_s)[0])

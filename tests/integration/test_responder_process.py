"""The responder as its own process: killed wherever it hurts, it asks for the very same executions.

On the embedded broker first; what needs a log that keeps its word or knows times runs on a real Kafka.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.cluster import KafkaCluster
from tests.kafka.fixtures import StartKafka
from workers.domain.falco.alert import event_from
from workers.domain.ids import ExecutionId, NodeId
from workers.domain.log import topics
from workers.domain.log.record import Earliest, OutRecord, Record
from workers.domain.node_state import DeadLetter
from workers.domain.request import ActionRequest
from workers.domain.rules.plan import step_id
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import Keyset
from workers.log import relay
from workers.log.embedded import EmbeddedBroker
from workers.log.readers import KafkaLogReader
from workers.log.writer import KafkaLogWriter
from workers.responder.responder import FAILPOINTS
from workers.settings import KafkaSettings, parse
from workers.system import yaml_files
from workers.system.clock import SystemClock
from workers.wire.avro import AvroCodec
from workers.wire.keys import init_keys
from workers.wire.signing import EnvelopeVerifier
from workers.wiring.rules import load_rules

CODEC = AvroCodec()
TOPICS = {
    topics.FALCO_EVENTS: 3,
    topics.RUNTIME_EVENTS: 1,
    topics.REQUESTS_RULES: 2,
    topics.AUDIT: 1,
    topics.DEAD_LETTERS: 1,
}
WRITTEN = (topics.REQUESTS_RULES, topics.AUDIT, topics.DEAD_LETTERS)
SETTLE_S = 60.0
RULES = "rules: [{name: kill, match: {rules: [Shell]}, steps: [{action: kill_process}]}]"


@dataclass
class Rig:
    """A broker, a writer of alerts, and responder processes that come and go."""

    home: Path
    kafka: KafkaSettings
    keyset: Keyset
    writer: KafkaLogWriter
    reader: KafkaLogReader
    expected: set[ExecutionId] = field(default_factory=set)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    read: dict[str, list[Record]] = field(default_factory=lambda: {topic: [] for topic in WRITTEN})
    sent: int = 0

    def start(self, failpoints: str = "") -> subprocess.Popen[bytes]:
        with (self.home / "out.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", "responder", "--config", str(self.home / "responder.yaml")],
                env={**os.environ, "DOUSE_FAILPOINTS": failpoints},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)
        return process

    def alert(self, pid: int = 4711, **changes: object) -> None:
        """A Falco alert of now; what it must lead to is remembered."""
        now = time.time_ns()
        stamp = datetime.fromtimestamp(now // 10**9, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
        fields = {"proc.pid": pid, "proc.pid.ts": now - 10**9}
        alert = {"rule": "Shell", "hostname": "web-1", "output_fields": fields, **changes}
        alert["time"] = f"{stamp}.{now % 10**9:09}Z"
        (rule,) = load_rules([self.home / "rules.yaml"]).every
        if alert["rule"] == "Shell":
            self.expected.add(step_id(event_from(alert), rule, 0))
        self.send(json.dumps(alert).encode())

    def send(self, value: bytes) -> None:
        self.writer.send(OutRecord(topics.FALCO_EVENTS, None, value), token=self.sent)
        self.sent += 1
        assert self.writer.flush(20) == 0

    def written(self, topic: str) -> list[Record]:
        for delivery in self.reader.poll(0.2, limit=1000):
            if isinstance(delivery, Record):
                self.read[delivery.position.topic].append(delivery)
        return self.read[topic]

    def requests(self) -> list[ActionRequest]:
        verifier = EnvelopeVerifier(self.keyset, CODEC, clock=SystemClock())
        values = [record.value or b"" for record in self.written(topics.REQUESTS_RULES)]
        return [verifier.verify(value, PayloadType.REQUEST, ActionRequest).record for value in values]

    def ids(self) -> set[ExecutionId]:
        return {step.execution_id for request in self.requests() for step in request.steps}

    def letters(self) -> list[DeadLetter]:
        return [CODEC.decode(record.value or b"", DeadLetter) for record in self.written(topics.DEAD_LETTERS)]

    def audit(self) -> list[AuditRecord]:
        verifier = EnvelopeVerifier(self.keyset, CODEC, clock=SystemClock())
        sealed = [record.value or b"" for record in self.written(topics.AUDIT)]
        return [verifier.verify(value, PayloadType.AUDIT, AuditRecord).record for value in sealed]

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (self.home / "out.log").read_text()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {SETTLE_S} s"
        time.sleep(0.02)


@contextmanager
def responding(home: Path, bootstrap_servers: str, **more: object) -> Iterator[Rig]:
    """A rig on any broker that has the topics; ``more`` are further settings of Kafka."""
    keyset = init_keys(home / "keys", now_ns=time.time_ns(), nodes={"node": NodeId("a" * 32)})
    raw = {"bootstrap_servers": bootstrap_servers, "insecure_dev": True, "security": {"protocol": "PLAINTEXT"}, **more}
    (home / "rules.yaml").write_text(RULES)
    yaml_files.write(
        home / "responder.yaml",
        {
            "kafka": raw,
            "keys": {
                "private_key": str(home / "keys" / "responder.key"),
                "keyset": str(home / "keys" / "keyset.json"),
            },
            "rules": [str(home / "rules.yaml")],
            "unsigned_topics": [topics.FALCO_EVENTS],
        },
    )
    kafka = parse(KafkaSettings, raw)
    reported, clock = FakeTelemetry(), SystemClock()
    with (
        closing(KafkaLogReader(kafka, telemetry=reported, clock=clock)) as reader,
        closing(KafkaLogWriter(kafka, telemetry=reported, clock=clock)) as writer,
    ):
        reader.assign({place: Earliest() for topic in WRITTEN for place in reader.partitions(topic)})
        made = Rig(home, kafka, keyset, writer, reader)
        try:
            yield made
        finally:
            for process in made.running:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with (
        EmbeddedBroker(TOPICS) as broker,
        responding(tmp_path, broker.bootstrap_servers, fetch_wait_ms=5, log_id="test") as made,
    ):
        yield made


@pytest.fixture
def cluster(start_kafka: StartKafka) -> KafkaCluster:
    made = start_kafka()
    for topic, partitions in TOPICS.items():
        made.create_topic(topic, partitions)
    return made


@pytest.fixture
def real(cluster: KafkaCluster, tmp_path: Path) -> Iterator[Rig]:
    with responding(tmp_path, cluster.bootstrap_servers, fetch_wait_ms=500) as made:
        yield made


def test_alerts_become_requests_and_poison_becomes_dead_letters(rig: Rig) -> None:
    process = rig.start()
    for number in range(20):
        rig.alert(100 + number)
        rig.send(b"poison %d" % number)
        rig.alert(rule="Other")
    until(lambda: rig.ids() == rig.expected and len(rig.letters()) == 20)
    rig.end(process)
    assert len(rig.requests()) == 20
    kinds = [record.kind for record in rig.audit()]
    assert (kinds[0], kinds.count("requested"), kinds.count("dead_letter")) == ("started", 20, 20)
    assert [record.record_no for record in rig.audit()] == list(range(len(kinds))), "one chain, without a gap"


def test_after_a_clean_stop_nothing_is_asked_for_twice(rig: Rig) -> None:
    process = rig.start()
    rig.alert(1000)
    until(lambda: rig.ids() == rig.expected)
    rig.end(process)
    process = rig.start()
    rig.alert(1001)
    until(lambda: rig.ids() == rig.expected)
    rig.end(process)
    assert len(rig.requests()) == 2


@pytest.mark.parametrize("failpoint", [*FAILPOINTS, *relay.FAILPOINTS])
def test_killed_at_any_failpoint_it_asks_for_the_very_same_executions(rig: Rig, failpoint: str) -> None:
    for number in range(5):
        rig.alert(2000 + number)
    process = rig.start(f"{failpoint}=kill")
    assert process.wait(30) == 137, (rig.home / "out.log").read_text()
    rig.alert(2005)
    process = rig.start()
    until(lambda: rig.ids() == rig.expected)
    rig.end(process)
    assert len(rig.expected) == 6


@pytest.mark.slow
def test_killed_again_and_again_it_loses_nothing_and_asks_for_nothing_else(rig: Rig) -> None:
    randomness = random.Random(7)
    for number in range(6):
        process = rig.start()
        for each in range(10):
            rig.alert(3000 + 10 * number + each)
        time.sleep(randomness.uniform(0.3, 2.0))
        process.kill()
        process.wait(10)
    process = rig.start()
    until(lambda: rig.ids() == rig.expected)
    rig.end(process)
    assert len(rig.expected) == 60


def test_faulty_rules_are_reported_one_a_line_and_nothing_is_started(rig: Rig) -> None:
    (rig.home / "rules.yaml").write_text("rules: [{name: a, match: {rules: ['*']}, steps: [{action: b}], mod: c}]")
    assert rig.start().wait(30) == 2
    lines = (rig.home / "out.log").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"douse: {rig.home}/rules.yaml: rules[0].") for line in lines)


def test_the_doctor_asks_the_brokers_of_a_workers_settings(rig: Rig) -> None:
    command = [sys.executable, "-m", "workers", "doctor", "--config", str(rig.home / "responder.yaml")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert f"ok   brokers: {rig.kafka.bootstrap_servers} answers" in found.stdout


def test_the_doctor_says_when_no_broker_answers(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        'kafka: {bootstrap_servers: "127.0.0.1:1", insecure_dev: true, security: {protocol: PLAINTEXT}}'
    )
    command = [sys.executable, "-m", "workers", "doctor", "--config", str(tmp_path / "x.yaml")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "fail brokers: 127.0.0.1:1" in found.stdout


@pytest.mark.fault("F4")
def test_on_a_real_broker_that_is_killed_too_nothing_is_lost_and_nothing_else_asked_for(
    real: Rig, cluster: KafkaCluster
) -> None:
    first = real.start()
    for number in range(5):
        real.alert(4000 + number)
    until(lambda: real.ids() == real.expected)
    first.kill()
    first.wait(10)
    for number in range(5):
        real.alert(4005 + number)
    second = real.start()
    cluster.kill()
    cluster.restart()
    for number in range(5):
        real.alert(4010 + number)
    until(lambda: real.ids() == real.expected)
    real.end(second)
    assert len(real.expected) == 15


def test_on_a_real_broker_a_new_group_does_not_read_what_is_older_than_five_minutes(
    real: Rig, cluster: KafkaCluster
) -> None:
    producer = Producer(cluster.client_settings())
    old_ms = (time.time_ns() - 400 * 10**9) // 10**6
    for partition in range(TOPICS[topics.FALCO_EVENTS]):
        producer.produce(
            topics.FALCO_EVENTS, b"older than anything that may be read", partition=partition, timestamp=old_ms
        )
    assert producer.flush(20) == 0
    for number in range(6):
        real.alert(5000 + number)
    process = real.start()
    until(lambda: real.ids() == real.expected)
    real.end(process)
    assert real.letters() == [], "an old record that is read would be a dead letter"

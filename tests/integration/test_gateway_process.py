"""The gateway as its own process, on a broker that becomes unavailable, and killed while it serves requests.

Runs on the embedded broker: what is promised here is that an answer comes after the log has the record, and nothing
about how long the log keeps it.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.embedded import FaultyBroker
from workers.domain.event import RuntimeEvent
from workers.domain.ids import NodeId
from workers.domain.log import topics
from workers.domain.log.record import Earliest, Record
from workers.domain.request import ActionRequest
from workers.domain.trust.audit import GENESIS, AuditRecord, link
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import Keyset
from workers.log.readers import KafkaLogReader
from workers.settings import KafkaSettings, parse
from workers.system import yaml_files
from workers.system.clock import SystemClock
from workers.wire.avro import AvroCodec
from workers.wire.keys import init_keys
from workers.wire.signing import EnvelopeVerifier

TOKEN = "the gateway's test token"
TOPICS = {topics.RUNTIME_EVENTS: 3, topics.REQUESTS_PEOPLE: 3, topics.AUDIT: 2}
UP_S = 60.0
CODEC = AvroCodec()
T = TypeVar("T")


@dataclass
class Rig:
    """A broker, one gateway process, and a reader of what it wrote."""

    home: Path
    broker: FaultyBroker
    keyset: Keyset
    reader: KafkaLogReader
    process: subprocess.Popen[bytes]
    http: httpx.Client
    read: list[Record] = field(default_factory=list)

    def records(self, topic: str, at_least: int) -> list[Record]:
        """What the log has of a topic, once it has so many."""
        deadline = time.monotonic() + 20
        while True:
            self.read += [found for found in self.reader.poll(0.2, limit=1000) if isinstance(found, Record)]
            mine = [record for record in self.read if record.position.topic == topic]
            if len(mine) >= at_least or time.monotonic() > deadline:
                return mine

    def event_ids(self, at_least: int) -> set[str]:
        found = self.records(topics.RUNTIME_EVENTS, at_least)
        return {self.verified(record, PayloadType.EVENT, RuntimeEvent).event_id for record in found}

    def verified(self, record: Record, kind: PayloadType, as_: type[T]) -> T:
        """What the gateway signed."""
        return EnvelopeVerifier(self.keyset, CODEC, clock=SystemClock()).verify(record.value or b"", kind, as_).record


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    keyset = init_keys(tmp_path / "keys", now_ns=time.time_ns(), nodes={"node": NodeId("a" * 32)})
    with FaultyBroker(TOPICS) as broker:
        kafka = {
            "bootstrap_servers": broker.bootstrap_servers,
            "security": {"protocol": "PLAINTEXT"},
            "insecure_dev": True,
            "fetch_wait_ms": 2,
            "log_id": "gateway-test",
        }
        settings = {
            "kafka": kafka,
            "keys": {
                "private_key": str(tmp_path / "keys" / "gateway.key"),
                "keyset": str(tmp_path / "keys" / "keyset.json"),
            },
            "history": f"sqlite:///{tmp_path / 'history.sqlite'}",
            "port": 0,
            "admin_token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "requests_per_minute": 100_000,
        }
        yaml_files.write(tmp_path / "gateway.yaml", settings)
        with (tmp_path / "out.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", "gateway", "--config", str(tmp_path / "gateway.yaml")],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        telemetry, clock = FakeTelemetry(), SystemClock()
        with closing(KafkaLogReader(parse(KafkaSettings, kafka), telemetry=telemetry, clock=clock)) as reader:
            reader.assign({position: Earliest() for topic in TOPICS for position in reader.partitions(topic)})
            try:
                url = f"http://127.0.0.1:{_port(process, tmp_path / 'out.log')}"
                headers = {"Authorization": f"Bearer {TOKEN}"}
                with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
                    yield Rig(tmp_path, broker, keyset, reader, process, http)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()


def test_an_answered_request_is_in_the_log_with_its_trace_and_the_audit_chain_verifies(rig: Rig) -> None:
    trace = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    answer = rig.http.post("/api/v1/events", json=_alert(1), headers={"traceparent": trace})
    assert answer.status_code == 202
    body = {"action": "kill_process", "host": "web-1", "target": {"process": {"pid": 4711}}}
    # Nothing is folded here, so the answer is the request.
    asked = rig.http.post("/api/v1/executions", json=body)
    assert asked.status_code == 202
    assert rig.http.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"}).status_code == 401
    (event,) = rig.records(topics.RUNTIME_EVENTS, 1)
    assert dict(event.headers)["traceparent"].split(b"-")[1] == b"%032x" % 0xABC
    (record,) = rig.records(topics.REQUESTS_PEOPLE, 1)
    request = rig.verified(record, PayloadType.REQUEST, ActionRequest)
    assert [step.execution_id for step in request.steps] == [asked.json()["id"]]

    rig.process.send_signal(signal.SIGTERM)
    assert rig.process.wait(20) == 0, (rig.home / "out.log").read_text()
    verifier = EnvelopeVerifier(rig.keyset, CODEC, clock=SystemClock())
    previous, kinds = GENESIS, []
    for number, sealed in enumerate(rig.records(topics.AUDIT, 4)):
        opened = verifier.verify(sealed.value or b"", PayloadType.AUDIT, AuditRecord)
        assert opened.signatory.owner == "gateway"
        assert (opened.record.record_no, opened.record.previous) == (number, previous)
        previous = link(opened.payload, previous)
        kinds.append(opened.record.kind)
    assert kinds == ["started", "handed_in", "asked", "refused"]


def test_a_gateway_killed_in_a_burst_has_written_everything_that_it_answered(rig: Rig) -> None:
    answered: set[str] = set()
    lock = threading.Lock()

    def submit(number: int) -> None:
        with suppress(httpx.TransportError):
            answer = rig.http.post("/api/v1/events", json=[_alert(2 * number), _alert(2 * number + 1)])
            with lock:
                answered.update(row["event_id"] for row in answer.json()["data"])
                if len(answered) > 200:
                    rig.process.kill()

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(submit, range(400)))
    assert len(answered) > 200
    assert answered <= rig.event_ids(len(answered))


def test_while_the_log_is_unavailable_readers_are_answered_and_writers_get_503(rig: Rig) -> None:
    assert rig.http.post("/api/v1/events", json=_alert(1)).status_code == 202
    rig.broker.down()
    try:
        with ThreadPoolExecutor(48) as callers:
            waiting = [callers.submit(rig.http.post, "/api/v1/events", json=_alert(n)) for n in range(2, 50)]
            with httpx.Client(base_url=rig.http.base_url, headers=rig.http.headers, timeout=5) as reader:
                assert reader.get("/api/v1/health").status_code == 200
                assert reader.get("/api/v1/executions").status_code == 200
            assert not any(each.done() for each in waiting)
            answers = [each.result() for each in waiting]
    finally:
        rig.broker.up()
    assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {(503, "log_away")}
    _until(lambda: rig.http.post("/api/v1/events", json=_alert(99)).status_code == 202)


def _alert(number: int) -> dict[str, object]:
    stamp = f"2026-07-04T20:46:44.{number:09d}Z"
    return {"rule": "Shell", "time": stamp, "hostname": f"web-{number % 5}", "output_fields": {"proc.pid": 4711}}


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Where it listens, from its own log line."""
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if "gateway_started" in line:
                return int(json.loads(line)["port"])
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not start: {log.read_text()}")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UP_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)

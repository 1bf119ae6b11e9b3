"""How fast the log is, and what the embedded broker costs and keeps. `make bench` prints the shown.

The checks are far from what was measured: they catch a wrong setting (a fetch that waits half a second), not a
slow day.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest
from confluent_kafka.cimpl import Producer

from tests.contract.log_rigs import loopback
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.target import KafkaTarget
from workers.domain.ids import ChainId
from workers.domain.log.record import Earliest, OutRecord, Record
from workers.log.client_events import ClientEvents
from workers.log.config import writer_config
from workers.log.embedded import EmbeddedBroker
from workers.log.memory_outbox import MemoryOutbox
from workers.log.readers import KafkaLogReader
from workers.log.relay import OutboxRelay
from workers.log.writer import KafkaLogWriter
from workers.system.clock import SystemClock

ROUNDS = 300
CLOCK = SystemClock()
QUIET = ClientEvents(FakeTelemetry(), CLOCK)


def resident_mib() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def writer_on(servers: str) -> KafkaLogWriter:
    return KafkaLogWriter(loopback(servers, log_id="bench"), telemetry=FakeTelemetry(), clock=CLOCK)


def listen(servers: str, fetch_wait_ms: int, topic: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.listener", servers, str(fetch_wait_ms), topic, str(count)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def one_at_a_time(
    servers: str, topic: str, *, fetch_wait_ms: int, linger_ms: int
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Milliseconds to the other process and to the ack, one record in flight; and what the other process said."""
    producer = Producer(writer_config(loopback(servers)) | {"linger.ms": linger_ms}, logger=QUIET)
    child = listen(servers, fetch_wait_ms, topic, ROUNDS)
    acked = []
    for _ in range(ROUNDS):
        sent = time.monotonic_ns()
        producer.produce(topic, b"%d" % sent, partition=0)
        while len(producer):  # not flush: it would not linger
            producer.poll(0.001)
        acked.append((time.monotonic_ns() - sent) / 1e6)
        time.sleep(0.007)
    shown: dict[str, Any] = json.loads(child.communicate(timeout=60)[0])
    return shown["late_ms"][10:], acked, shown


@pytest.mark.parametrize("linger_ms", [0, 1, 5])
@pytest.mark.parametrize("fetch_wait_ms", [1, 5])
def test_from_one_process_to_another_through_the_embedded_broker(fetch_wait_ms: int, linger_ms: int) -> None:
    with EmbeddedBroker({"way": 1}) as broker:
        late, acked, shown = one_at_a_time(
            broker.bootstrap_servers, "way", fetch_wait_ms=fetch_wait_ms, linger_ms=linger_ms
        )
    print(
        f"\nfetch wait {fetch_wait_ms} ms, linger {linger_ms} ms: produce to poll p50 {median(late):.2f} ms, "
        f"p99 {quantiles(late, n=100)[98]:.2f} ms; ack p50 {median(acked):.2f} ms; first {shown['late_ms'][0]:.1f} ms; "
        f"idle reader {shown['idle_cores'] * 100:.1f} % of a core"
    )
    assert median(late) < 50


def test_from_one_process_to_another_through_a_real_broker_with_the_waits_of_production(
    kafka: KafkaTarget, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("way")
    late, acked, shown = one_at_a_time(kafka.bootstrap_servers, topic, fetch_wait_ms=10_000, linger_ms=0)
    print(
        f"\nreal broker, fetch wait 10 s: produce to poll p50 {median(late):.2f} ms, "
        f"p99 {quantiles(late, n=100)[98]:.2f} ms; ack p50 {median(acked):.2f} ms; "
        f"idle reader {shown['idle_cores'] * 100:.1f} % of a core"
    )
    assert median(late) < 50


def test_how_fast_a_relay_empties_an_outbox() -> None:
    with EmbeddedBroker({"out": 1}) as broker:
        outbox = MemoryOutbox(ChainId("bench"))
        writer = writer_on(broker.bootstrap_servers)
        relay = OutboxRelay(outbox, writer, failpoints=FakeFailpoints(), telemetry=FakeTelemetry(), clock=CLOCK)
        outbox.publish(OutRecord("out", b"k", b"warm", partition=0))
        assert relay.drain(10) == 0
        for _ in range(20_000):
            outbox.publish(OutRecord("out", b"k", bytes(200), partition=0))
        begun = time.monotonic()
        assert relay.drain(60) == 0
        spent = time.monotonic() - begun
        writer.close()
    print(f"\nrelay: {20_000 / spent:,.0f} records of 200 bytes a second")
    assert spent < 60


def test_what_the_embedded_broker_keeps_and_costs() -> None:
    before = resident_mib()
    with EmbeddedBroker({f"topic-{number}": 64 for number in range(10)}) as broker:
        empty = resident_mib()
        writer = writer_on(broker.bootstrap_servers)
        for token in range(10_000):
            writer.send(OutRecord("topic-0", None, b"%06d" % token + bytes(1_000), partition=0), token=token)
        assert writer.flush(30) == 0
        writer.close()
        full = resident_mib()
        reader = KafkaLogReader(
            loopback(broker.bootstrap_servers, log_id="bench", fetch_wait_ms=1), telemetry=FakeTelemetry(), clock=CLOCK
        )
        reader.assign({reader.partitions("topic-0")[0]: Earliest()})
        found: list[Record] = []
        while not found or found[-1].offset < 9_999:
            found += [delivery for delivery in reader.poll(1.0) if isinstance(delivery, Record)]
        reader.close()
    kept = sum(len(record.value or b"") for record in found) / 2**20
    print(
        f"\nembedded broker: {empty - before:.1f} MiB for 640 empty partitions, {full - empty:.1f} MiB more after "
        f"10 MB into one, the producer included; the newest {kept:.2f} MiB are left, from offset {found[0].offset}"
    )
    assert found[0].offset > 0
    assert kept < 5.1

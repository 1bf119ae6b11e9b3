"""The embedded broker as a part of a process: other processes reach it, it keeps its promises, and it ends quietly."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.contract.log_rigs import loopback
from tests.fakes.telemetry import FakeTelemetry
from tests.kafka.embedded import INIT_PRODUCER_ID, PRODUCE, FaultyBroker
from workers.domain.errors import ConfigError, PermanentFailure, TransientFailure
from workers.domain.log.record import Delivery, Earliest, Gap, Offset, OutRecord, Record, Start
from workers.log.embedded import KEPT_BYTES, EmbeddedBroker, load_library
from workers.log.ports import Ack
from workers.log.readers import KafkaLogReader
from workers.log.writer import KafkaLogWriter
from workers.system.clock import SystemClock

READ_ONE = """
import sys
from tests.contract.log_rigs import loopback
from tests.fakes.telemetry import FakeTelemetry
from workers.system.clock import SystemClock
from workers.log.readers import KafkaLogReader
from workers.domain.log.record import Earliest
settings = loopback(sys.argv[1], fetch_wait_ms=5, log_id="x")
reader = KafkaLogReader(settings, telemetry=FakeTelemetry(), clock=SystemClock())
reader.assign(dict.fromkeys(reader.partitions("a"), Earliest()))
found = []
while not found:
    found = reader.poll(1.0)
print(found[0].value.decode())
"""

LEAVE_IT_OPEN = """
from workers.log.embedded import EmbeddedBroker
broker = EmbeddedBroker({"a": 3})
print(broker.bootstrap_servers)
"""


def writer_on(broker: EmbeddedBroker) -> KafkaLogWriter:
    settings = loopback(broker.bootstrap_servers, log_id="x")
    return KafkaLogWriter(settings, telemetry=FakeTelemetry(), clock=SystemClock())


def reader_on(broker: EmbeddedBroker, topic: str, start: Start) -> KafkaLogReader:
    settings = loopback(broker.bootstrap_servers, fetch_wait_ms=5, log_id="x")
    reader = KafkaLogReader(settings, telemetry=FakeTelemetry(), clock=SystemClock())
    reader.assign(dict.fromkeys(reader.partitions(topic), start))
    return reader


def fates(writer: KafkaLogWriter, count: int) -> list[Ack]:
    found: list[Ack] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += writer.acks(0.5)
    return found


def read(reader: KafkaLogReader, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += reader.poll(0.5)
    return found


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_another_process_reads_what_this_one_wrote() -> None:
    with EmbeddedBroker({"a": 1}) as broker:
        writer = writer_on(broker)
        writer.send(OutRecord("a", None, b"across"), token=1)
        assert writer.flush(10) == 0
        done = python(READ_ONE, broker.bootstrap_servers)
        writer.close()
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "across", "")


def test_a_process_that_leaves_it_open_ends_well_and_prints_nothing() -> None:
    done = python(LEAVE_IT_OPEN)
    assert done.returncode == 0
    assert done.stdout.startswith("127.0.0.1:")
    assert done.stderr == ""


def test_a_closed_broker_reports_that_and_may_be_closed_again() -> None:
    broker = EmbeddedBroker({"a": 1})
    broker.close()
    broker.close()
    with pytest.raises(PermanentFailure) as caught:
        broker.create_topic("b", 1)
    assert caught.value.reason == "broker_closed"


def test_a_topic_it_refuses_is_one_clear_error() -> None:
    with EmbeddedBroker({"a": 1}) as broker:
        with pytest.raises(PermanentFailure) as caught:
            broker.create_topic("a", 1)
        assert caught.value.reason == "broker_topic"
        broker.create_topic("b", 1)


def test_a_build_without_it_is_one_clear_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load_library({"rd_kafka_mock_no_such_thing": (None, ())})
    assert "rd_kafka_mock_no_such_thing is missing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_brokers_share_nothing() -> None:
    with EmbeddedBroker({"a": 1}) as first, EmbeddedBroker({"a": 1}) as second:
        assert first.bootstrap_servers != second.bootstrap_servers
        writer = writer_on(first)
        writer.send(OutRecord("a", None, b"mine"), token=1)
        assert writer.flush(10) == 0
        reader = reader_on(second, "a", Earliest())
        assert list(reader.poll(0.2)) == []
        reader.close()
        writer.close()


def test_ten_megabytes_in_one_partition_lose_the_oldest_and_a_reader_gets_a_gap() -> None:
    with EmbeddedBroker({"a": 1}) as broker:
        writer = writer_on(broker)
        for token in range(10_000):
            writer.send(OutRecord("a", None, b"%06d" % token + bytes(1_000), partition=0), token=token)
        assert writer.flush(30) == 0
        writer.close()
        reader = reader_on(broker, "a", Offset(0))
        gap, *_ = found = read(reader, 2)
        assert isinstance(gap, Gap)
        while not (isinstance(found[-1], Record) and found[-1].offset == 9_999):
            found += read(reader, 1)
        reader.close()
    kept = [record for record in found[1:] if isinstance(record, Record)]
    assert [record.offset for record in kept] == list(range(gap.resumed_at, 10_000)), "what is kept has no hole"
    assert 0.7 * KEPT_BYTES < sum(len(record.value or b"") for record in kept) < KEPT_BYTES


@pytest.mark.fault("F5", "F7")
def test_an_idempotent_writer_writes_once_though_its_leader_moves_and_its_requests_fail() -> None:
    not_leader, timed_out = 6, 7
    with FaultyBroker({"a": 1}, brokers=3) as broker:
        writer = writer_on(broker)
        for number in range(100):
            if number % 20 == 5:
                broker.lead("a", 0, number // 20 % 3 + 1)
            if number % 20 == 15:
                # With two batches under way and one error for each, the mock cluster takes the second's retry for a
                # duplicate of what it never kept (3 of 100 gone, one run in fourteen): one batch meets both.
                assert writer.flush(20) == 0
                broker.fail(PRODUCE, [not_leader, timed_out])
            writer.send(OutRecord("a", None, b"%d" % number, partition=0), token=number)
            if number % 5 == 0:
                assert writer.flush(20) == 0
        assert writer.flush(20) == 0
        assert all(ack.ok for ack in fates(writer, 100))
        reader = reader_on(broker, "a", Earliest())
        found = read(reader, 100)
        assert [record.value for record in found if isinstance(record, Record)] == [b"%d" % n for n in range(100)]
        assert list(reader.poll(0.2)) == []
        reader.close()
        writer.close()


def test_a_writer_that_may_not_write_yet_goes_on_once_it_may() -> None:
    """Rules of access reach a broker a moment after they were made; to the client the refusal is for good."""
    cluster_authorization_failed = 31
    with FaultyBroker({"a": 1}) as broker:
        broker.fail(INIT_PRODUCER_ID, [cluster_authorization_failed] * 2)
        writer = writer_on(broker)
        fate = Ack(0, "not sent")
        deadline = time.monotonic() + 60
        while not fate.ok:
            assert time.monotonic() < deadline, fate
            with suppress(TransientFailure):
                writer.send(OutRecord("a", None, b"v"), token=1)
                (fate,) = fates(writer, 1)
            time.sleep(0.05)
        found = read(reader_on(broker, "a", Earliest()), 1)
        assert [record.value for record in found if isinstance(record, Record)] == [b"v"]
        writer.close()


def test_a_record_the_broker_finds_too_large_fails_as_oversize() -> None:
    message_too_large = 10
    with FaultyBroker({"a": 1}) as broker:
        writer = writer_on(broker)
        broker.fail(PRODUCE, [message_too_large])
        writer.send(OutRecord("a", None, b"v"), token=1)
        assert [ack.error for ack in fates(writer, 1)] == ["oversize"]
        writer.close()


def test_a_header_name_that_is_not_text_costs_its_headers_and_stops_no_reader() -> None:
    names = [b"good", b"bad \xff\xfe name", b"\xc3\x28"]
    with EmbeddedBroker({"a": 1}) as broker:
        # Many, because the interpreter takes its fast path only once it has seen a call often.
        produce_raw(broker, "a", *(names * 100))
        reader = reader_on(broker, "a", Earliest())
        found = [record for record in read(reader, 300) if isinstance(record, Record)]
        reader.close()
    assert [record.value for record in found] == [b"value"] * 300
    assert [record.headers for record in found] == [(("good", b"v"),), (), ()] * 100


def produce_raw(broker: EmbeddedBroker, topic: str, *header_names: bytes) -> None:
    """Write records with header names as bytes, which no Python producer allows."""
    handle, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    library = load_library(
        {
            "rd_kafka_conf_set": (ctypes.c_int, (handle, text, text, text, size)),
            "rd_kafka_flush": (ctypes.c_int, (handle, ctypes.c_int)),
        }
    )
    message = ctypes.create_string_buffer(512)
    configuration = library.rd_kafka_conf_new()
    servers = broker.bootstrap_servers.encode()
    assert library.rd_kafka_conf_set(configuration, b"bootstrap.servers", servers, message, 512) == 0
    client = library.rd_kafka_new(0, configuration, message, 512)
    end, to_topic, with_value, flags, with_header, copy = 0, 1, 4, 7, 9, 2  # rd_kafka_vtype_t, RD_KAFKA_MSG_F_COPY
    number = ctypes.c_int
    for name in header_names:
        error = library.rd_kafka_producev(
            *(handle(client), number(to_topic), text(topic.encode())),
            *(number(with_value), text(b"value"), size(5), number(flags), number(copy)),
            *(number(with_header), text(name), text(b"v"), ctypes.c_ssize_t(1), number(end)),
        )
        assert error == 0
    assert library.rd_kafka_flush(client, 10_000) == 0
    library.rd_kafka_destroy(client)

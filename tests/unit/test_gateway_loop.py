"""The gateway's threads: many callers on one writer, a server on a real port, and an orderly end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.fakes.bus import FakeBus
from tests.fakes.gateway import TOKEN, FakeGateway
from tests.fakes.telemetry import FakeTelemetry
from workers.domain.errors import ConfigError, TransientFailure
from workers.domain.log.record import Earliest, OutRecord
from workers.gateway.loop import Appender, Loop
from workers.log.ports import Ack
from workers.service import Service
from workers.system.clock import SystemClock

TOPIC = "runtime.events"


class CountingRelay:
    """A relay that moves nothing and remembers that it was drained."""

    drained = False

    def step(self, timeout_s: float = 0.0) -> int:
        return 0

    def drain(self, timeout_s: float) -> int:
        self.drained = True
        return 0


class AcknowledgingWriter:
    """A writer that acknowledges everything."""

    def __init__(self) -> None:
        self.acked: list[Ack] = []

    def send(self, record: OutRecord, *, token: int) -> None:
        self.acked.append(Ack(token))

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        acked, self.acked = self.acked, []
        return acked

    def flush(self, timeout_s: float) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def running(appender: Appender) -> Iterator[None]:
    """The appender's thread."""
    stop = threading.Event()
    thread = Service(FakeTelemetry()).start_thread("append", appender.step, stop)
    try:
        yield
    finally:
        stop.set()
        thread.join()
        appender.drain(SystemClock())


def record(number: int) -> OutRecord:
    return OutRecord(TOPIC, str(number).encode(), str(number).encode())


def test_many_callers_at_once_each_get_the_result_of_their_own_records() -> None:
    bus = FakeBus({TOPIC: 3})
    appender = Appender(bus.writer())
    with running(appender), ThreadPoolExecutor(16) as callers:
        list(callers.map(lambda n: appender.append([record(3 * n + i) for i in range(3)]), range(100)))
    reader = bus.reader()
    reader.assign(dict.fromkeys(reader.partitions(TOPIC), Earliest()))
    assert len(reader.poll(0.0, limit=1000)) == 300


def test_a_record_that_the_log_refuses_fails_its_caller_only() -> None:
    bus = FakeBus({TOPIC: 1})
    appender = Appender(bus.writer())
    with running(appender):
        with pytest.raises(TransientFailure, match="unknown_topic"):
            appender.append([OutRecord("no.such.topic", b"k", b"v")])
        with pytest.raises(TransientFailure, match="oversize"):
            appender.append([OutRecord(TOPIC, b"k", bytes(2_000_000))])
        appender.append([record(1)])


def test_a_log_that_is_unavailable_releases_the_caller_and_does_not_delay_the_end() -> None:
    bus = FakeBus({TOPIC: 1})
    appender = Appender(bus.writer(), wait_s=0.05, drain_s=0.05)
    with running(appender):
        bus.is_down = True
        with pytest.raises(TransientFailure, match="did not acknowledge"):
            appender.append([record(1)])


def test_a_fault_of_the_writer_reaches_the_caller_and_the_next_one_is_served() -> None:
    class Breaking(AcknowledgingWriter):
        broke = False

        def send(self, record: OutRecord, *, token: int) -> None:
            if not self.broke:
                self.broke = True
                raise ZeroDivisionError("a bug")
            super().send(record, token=token)

    appender = Appender(Breaking())
    with running(appender):
        with pytest.raises(ZeroDivisionError):
            appender.append([record(1)])
        appender.append([record(2)])


def test_it_serves_on_a_free_port_until_stopped_and_answers_pending_requests() -> None:
    gateway, relay, closed = FakeGateway(), CountingRelay(), threading.Event()
    loop = Loop(
        gateway.app,
        is_valid=lambda token: token == TOKEN,
        host="127.0.0.1",
        port=0,
        appender=Appender(gateway.bus.writer()),
        relay=relay,
        trail=gateway.trail,
        telemetry=gateway.telemetry,
        clock=SystemClock(),
        close=closed.set,
    )
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10) as client:
            assert _when_up(client, loop).status_code == 200
            assert client.post(f"http://127.0.0.1:{loop.port}/api/v1/executions", json={}).status_code == 400
    finally:
        stop.set()
        thread.join()
    assert relay.drained
    assert closed.is_set()
    assert [record.kind for record in gateway.audit()] == ["started"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", loop.port), 1)


def test_a_port_in_use_is_one_line_and_nothing_was_started() -> None:
    gateway = FakeGateway()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        loop = Loop(
            gateway.app,
            is_valid=lambda token: token == TOKEN,
            host="127.0.0.1",
            port=port,
            appender=Appender(gateway.bus.writer()),
            relay=CountingRelay(),
            trail=gateway.trail,
            telemetry=gateway.telemetry,
            clock=SystemClock(),
            close=lambda: None,
        )
        with pytest.raises(ConfigError, match=f"port {port}"):
            loop.run(threading.Event())
    assert gateway.audit() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_itself_ends_the_gateway() -> None:
    class Breaking(AcknowledgingWriter):
        def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
            raise ZeroDivisionError("a bug")

    gateway, relay, closed = FakeGateway(), CountingRelay(), threading.Event()
    loop = Loop(
        gateway.app,
        is_valid=lambda token: token == TOKEN,
        host="127.0.0.1",
        port=0,
        appender=Appender(Breaking()),
        relay=relay,
        trail=gateway.trail,
        telemetry=gateway.telemetry,
        clock=SystemClock(),
        close=closed.set,
    )
    with pytest.raises(TransientFailure, match="gateway-append ended by itself"):
        loop.run(threading.Event())
    assert relay.drained
    assert closed.is_set()


def test_no_answer_waits_for_the_clients_delayed_acknowledgement() -> None:
    gateway = FakeGateway()
    loop = Loop(
        gateway.app,
        is_valid=lambda token: token == TOKEN,
        host="127.0.0.1",
        port=0,
        appender=Appender(gateway.bus.writer()),
        relay=CountingRelay(),
        trail=gateway.trail,
        telemetry=gateway.telemetry,
        clock=SystemClock(),
        close=lambda: None,
    )
    with loop._listen() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def _when_up(client: httpx.Client, loop: Loop) -> httpx.Response:
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.get(f"http://127.0.0.1:{loop.port}/api/v1/nodes")
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)

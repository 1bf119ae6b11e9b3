"""Which connection goes when a limit is reached, and how long a client may keep the gateway waiting."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from tests.fakes.gateway import TOKEN, FakeGateway
from workers.gateway.http.connections import Cause, Connections, Limits
from workers.gateway.http.server import Server, Waiting

SHORT = Limits(in_all=20, waiting=10, waiting_per_address=5, headers_s=0.5, body_s=0.5, refused_body_s=0.3)
SHORT_IDLE = Limits(idle_s=1.0, unread_s=0.5, headers_s=5)


class FakeConnection:
    """Remembers why it was closed."""

    closed: Cause | None = None

    def close_for(self, cause: Cause) -> None:
        self.closed = cause


def admitted(connections: Connections, address: str, count: int) -> list[FakeConnection]:
    made = [FakeConnection() for _ in range(count)]
    for each in made:
        connections.admit(each, address)
    return made


def test_the_oldest_of_its_own_address_goes_for_a_newcomer() -> None:
    connections = Connections(SHORT)
    first, *others = admitted(connections, "a", 6)
    assert first.closed is Cause.ADDRESS_LIMIT
    assert [each.closed for each in others] == [None] * 5


def test_an_address_with_many_connections_never_pushes_out_one_with_few() -> None:
    connections = Connections(SHORT)
    (quiet,) = admitted(connections, "quiet", 1)
    flood = [each for address in ("a", "b", "c") for each in admitted(connections, address, 20)]
    assert quiet.closed is None
    assert len([each for each in flood if each.closed is None]) == SHORT.waiting - 1


def test_a_connection_with_a_valid_token_is_never_closed_for_a_newcomer() -> None:
    connections = Connections(SHORT)
    known = admitted(connections, "a", 5)
    for each in known:
        connections.authenticated(each, "a")
    admitted(connections, "a", 100)
    assert [each.closed for each in known] == [None] * 5


def test_only_where_every_connection_has_a_token_the_newcomer_is_refused() -> None:
    connections = Connections(SHORT)
    for _ in range(SHORT.in_all):
        (each,) = admitted(connections, "a", 1)
        connections.authenticated(each, "a")
    (late,) = admitted(connections, "b", 1)
    assert late.closed is Cause.FULL


def test_connections_that_end_leave_no_trace() -> None:
    connections = Connections(SHORT)
    for round_ in range(100):
        for each in admitted(connections, f"{round_}", 3):
            connections.remove(each, f"{round_}")
            connections.remove(each, f"{round_}")
    assert sum(connections.closed.values()) == 0
    assert not connections._waiting
    assert not connections._counts


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 4096, 1 << 20])
def test_the_limits_fit_the_descriptors_that_a_process_may_open(descriptors: int) -> None:
    limits = Limits.within(descriptors)
    assert 0 < limits.waiting_per_address <= limits.waiting < limits.in_all
    assert descriptors < 1024 or 2 * limits.in_all + 256 <= descriptors


class Served:
    """A gateway on fakes behind the real server."""

    def __init__(self, limits: Limits) -> None:
        self.connections = Connections(limits)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.held, self.goes_on = threading.Event(), threading.Event()
        self.server = Server(FakeGateway().app, self.listener, self.connections, self.is_valid)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def is_valid(self, token: str) -> bool:
        """The token `hold` stops the server's thread, so that more connections wait in the kernel."""
        if token == "hold":
            self.held.set()
            self.goes_on.wait(20)
        return token.strip() == TOKEN

    def connect(self, part: bytes) -> socket.socket:
        connection = socket.create_connection(self.listener.getsockname(), 5)
        connection.sendall(part)
        return connection

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.close()


def ended_after_s(connection: socket.socket, trickle: bytes = b"") -> float:
    """How long until the server closed it, sending a byte every 50 ms meanwhile."""
    began = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - began < 5:
        try:
            if trickle:
                connection.send(trickle)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


_HEAD = b"POST /api/v1/executions HTTP/1.1\r\nHost: gateway\r\n"
_KNOWN = f"Authorization: Bearer {TOKEN}\r\n".encode()
_LONG = b"Content-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("served", [SHORT], indirect=True)
@pytest.mark.parametrize(
    ("part", "trickle", "cause"),
    [
        (b"", b"", Cause.HEADERS_LATE),
        (_HEAD, b"", Cause.HEADERS_LATE),
        (_HEAD + b"X: ", b"x", Cause.HEADERS_LATE),
        (_HEAD + _LONG, b"x", Cause.BODY_LATE),
        (_HEAD + _KNOWN + _LONG, b"x", Cause.BODY_LATE),
    ],
)
def test_a_request_that_does_not_arrive_ends_its_connection_also_byte_by_byte(
    served: Served, part: bytes, trickle: bytes, cause: Cause
) -> None:
    with served.connect(part) as connection:
        assert ended_after_s(connection, trickle) < 3
    assert served.connections.closed[cause] == 1


@pytest.mark.parametrize("served", [SHORT_IDLE], indirect=True)
def test_an_idle_connection_ends_and_one_in_use_does_not(served: Served) -> None:
    host, port = served.listener.getsockname()
    with served.connect(b"GET /api/v1/health HTTP/1.1\r\nHost: gateway\r\n\r\n") as idle:
        with httpx.Client(base_url=f"http://{host}:{port}") as used:
            for _ in range(10):
                assert used.get("/api/v1/health").status_code == 200
                time.sleep(0.15)
            assert len(served.connections._waiting.get(host, {})) >= 1
        assert ended_after_s(idle) < 3
    assert served.connections.closed[Cause.IDLE] >= 1


@pytest.mark.parametrize("served", [SHORT_IDLE], indirect=True)
def test_a_client_that_never_reads_its_answers_is_closed(served: Served) -> None:
    part = b"GET /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n"
    with served.connect(b"") as connection:
        connection.settimeout(1)
        with suppress(OSError):  # a time-out once both buffers are full, or a reset
            while True:
                connection.sendall(part * 50)
        _until(lambda: served.connections.closed[Cause.ANSWER_NOT_READ] == 1)


@pytest.mark.parametrize("served", [SHORT], indirect=True)
def test_a_valid_token_is_reported_for_its_connection(served: Served) -> None:
    host, port = served.listener.getsockname()
    with httpx.Client(base_url=f"http://{host}:{port}", headers={"Authorization": f"Bearer {TOKEN}"}) as known:
        assert known.get("/api/v1/nodes").status_code == 200
        others = [served.connect(_HEAD) for _ in range(30)]
        assert known.get("/api/v1/nodes").status_code == 200
        assert len(served.connections._authenticated) == 1
    for each in others:
        each.close()


def waiting_of(limits: Limits, counts: dict[str, int]) -> tuple[Connections, Waiting, dict[str, list[socket.socket]]]:
    """So many accepted connections of each address, one address after the other."""
    connections = Connections(limits)
    waiting = Waiting(connections)
    made = {address: [socket.socket() for _ in range(count)] for address, count in counts.items()}
    for address, sockets in made.items():
        for each in sockets:
            waiting.add(each, address)
    return connections, waiting, made


def test_of_one_address_only_the_newest_wait_to_be_served() -> None:
    connections, waiting, made = waiting_of(SHORT, {"a": 50})
    assert [each.fileno() >= 0 for each in made["a"]] == [False] * 45 + [True] * 5
    assert (len(waiting), connections.closed[Cause.ADDRESS_LIMIT]) == (5, 45)
    assert [waiting.pop() for _ in range(5)] == made["a"][45:]
    with pytest.raises(KeyError):
        waiting.pop()
    for each in made["a"]:
        each.close()


def test_many_addresses_never_push_out_the_one_connection_of_another_that_waits_to_be_served() -> None:
    connections, waiting, made = waiting_of(SHORT, {"quiet": 1} | dict.fromkeys("bcdefg", 5))
    assert made["quiet"][0].fileno() >= 0
    assert len(waiting) == SHORT.waiting
    assert connections.closed[Cause.WAITING_LIMIT] == 31 - SHORT.waiting
    waiting.close()
    assert [each.fileno() for peers in made.values() for each in peers] == [-1] * 31


@pytest.mark.parametrize(
    "header",
    [f"Authorization: Bearer {TOKEN}", f"authorization:bearer \t{TOKEN} ", f"X: y\r\nAUTHORIZATION: BEARER {TOKEN}"],
)
@pytest.mark.parametrize("served", [SHORT], indirect=True)
def test_who_sends_a_valid_token_is_served_before_hundreds_that_came_earlier(served: Served, header: str) -> None:
    others = []
    while not served.held.wait(0.05):  # one that is accepted before its header arrived holds nothing
        others.append(served.connect(_HEAD + b"Authorization: Bearer hold\r\n"))
    others += [served.connect(_HEAD + f"Authorization: Bearer no-{TOKEN}\r\n".encode()) for _ in range(100)]
    request = f"GET /api/v1/nodes HTTP/1.1\r\nHost: gateway\r\n{header}\r\n\r\n".encode()
    with served.connect(request) as known:
        others += [served.connect(_HEAD) for _ in range(100)]
        served.goes_on.set()
        known.settimeout(20)
        assert known.recv(15) == b"HTTP/1.1 200 OK"
    assert len(served.connections._waiting.get("127.0.0.1", {})) <= SHORT.waiting_per_address
    for each in others:
        each.close()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)

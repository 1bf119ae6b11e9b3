"""How many connections are open and how long each may keep the server waiting: the protocol that uvicorn serves with.

Made by ``http.server``, used on the one event-loop thread; ``security`` reports valid tokens. uvicorn's own protocol
parses HTTP; this one only counts connections and sets a deadline for what a client owes next. A connection that has not
yet sent a valid token may be closed at any moment in favour of a newer one, so that whoever opens thousands takes
nothing from a caller with a token. Never blocks, and never refuses a newcomer while an older connection can go.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

STATE: Final = "connection"
"""The key in ASGI's ``state`` under which a request finds its connection."""


class Cause(StrEnum):
    """Why the gateway closed a connection that the client had not finished with."""

    HEADERS_LATE = "headers_late"
    BODY_LATE = "body_late"
    IDLE = "idle"
    ANSWER_NOT_READ = "answer_not_read"
    ADDRESS_LIMIT = "address_limit"
    WAITING_LIMIT = "waiting_limit"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts of connections, and seconds."""

    in_all: int = 4096
    waiting: int = 1024
    """Connections without a valid token so far; the rest is reserved for callers with one."""
    waiting_per_address: int = 256
    """Of one IPv4 address, or one IPv6 network of 64 bits."""
    headers_s: float = 10.0
    """From the connection, or from a request's first byte, to the end of its headers."""
    body_s: float = 35.0
    """From the end of the headers to the end of the body, with a valid token; longer than ``edge.BODY_WAIT_S``, which
    answers."""
    refused_body_s: float = 5.0
    """The same without a valid token: that request was answered already."""
    idle_s: float = 30.0
    """From an answer to the next request's first byte."""
    unread_s: float = 30.0
    """For a client that does not read its answer."""

    @classmethod
    def within(cls, descriptors: int) -> "Limits":
        """The limits of a process that may open so many files: connections get half of what it does not need itself,
        because a closed one keeps its descriptor for a moment."""
        in_all = max(64, min(cls().in_all, (descriptors - 256) // 2))
        waiting = min(cls().waiting, in_all // 2)
        return cls(in_all=in_all, waiting=waiting, waiting_per_address=min(cls().waiting_per_address, waiting // 2))


class Connection(Protocol):
    """What ``Connections`` counts."""

    def close_for(self, cause: Cause) -> None:
        """Close at once."""


class Connections:
    """The connections that are open now. One thread only; ``closed`` may be read by any."""

    def __init__(self, limits: Limits) -> None:
        """``limits`` are kept."""
        self.limits = limits
        self.closed: dict[Cause, int] = dict.fromkeys(Cause, 0)
        """How many were closed, by cause, since the start."""
        self._waiting: dict[str, dict[Connection, None]] = {}
        """Without a valid token so far, by address, oldest first."""
        self._counts: dict[str, int] = {}
        """Of ``_waiting``; kept beside it, because the largest is looked for at every connection of a flood."""
        self._waiting_count = 0
        self._authenticated: set[Connection] = set()

    def admit(self, connection: Connection, address: str) -> None:
        """Count a new connection. Where a limit is reached another one is closed: the oldest of its own address, or of
        the address that has most; where all have a valid token, the new one."""
        limits = self.limits
        if len(self._waiting.get(address, ())) >= limits.waiting_per_address:
            self._close_oldest(address, Cause.ADDRESS_LIMIT)
        elif self._waiting_count >= limits.waiting or self._in_all() >= limits.in_all:
            if not self._waiting:
                self._close(connection, Cause.FULL)
                return
            self._close_oldest(max(self._counts, key=self._counts.__getitem__), Cause.WAITING_LIMIT)
        self._waiting.setdefault(address, {})[connection] = None
        self._count(address, 1)

    def authenticated(self, connection: Connection, address: str) -> None:
        """It sent a valid token: it is no longer closed in favour of others."""
        if self._forget(connection, address):
            self._authenticated.add(connection)

    def remove(self, connection: Connection, address: str) -> None:
        """It ended. Idempotent."""
        self._forget(connection, address)
        self._authenticated.discard(connection)

    def expired(self, connection: Connection, address: str, cause: Cause) -> None:
        """It kept the server waiting for too long."""
        self.remove(connection, address)
        self._close(connection, cause)

    def has_authenticated(self, connection: Connection) -> bool:
        """Whether it has sent a valid token."""
        return connection in self._authenticated

    def _in_all(self) -> int:
        return self._waiting_count + len(self._authenticated)

    def _close_oldest(self, address: str, cause: Cause) -> None:
        oldest = next(iter(self._waiting[address]))
        self._forget(oldest, address)
        self._close(oldest, cause)

    def _close(self, connection: Connection, cause: Cause) -> None:
        self.closed[cause] += 1
        connection.close_for(cause)

    def _forget(self, connection: Connection, address: str) -> bool:
        peers = self._waiting.get(address, {})
        if connection not in peers:
            return False
        del peers[connection]
        self._count(address, -1)
        if not peers:
            del self._waiting[address], self._counts[address]
        return True

    def _count(self, address: str, by: int) -> None:
        self._counts[address] = self._counts.get(address, 0) + by
        self._waiting_count += by


class ConnectionSlot:
    """What a request finds under ``STATE``: its connection, to be reported as authenticated."""

    def __init__(self, report: Callable[[], None]) -> None:
        """``report`` is called when a valid token arrived."""
        self.authenticated = report


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP protocol on a counted connection, with one deadline: for what the client owes next."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        known: bool,
    ) -> None:
        """Called for each connection that is served; ``known`` if it has sent a valid token already."""
        super().__init__(config, server_state, {**app_state, STATE: ConnectionSlot(self._authenticated)})
        self._known = known
        self._connections = connections
        self._address = ""
        self._owed: tuple[Cause, object, bool] | None = None
        """What the client owes, within which request, and whether it is known."""
        self._deadline: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = network_of(self.client[0] if self.client else "")
        self._connections.admit(self, self._address)
        if self._known:
            self._connections.authenticated(self, self._address)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._connections.remove(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        self._answered = True
        super().on_response_complete()
        # uvicorn would close, which waits for a client that does not read; the deadline for idling aborts.
        self._unset_keepalive_if_required()
        self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect()

    def close_for(self, cause: Cause) -> None:
        """Closed at once, also if the client reads nothing."""
        self._disarm()
        self.transport.abort()

    def _authenticated(self) -> None:
        self._connections.authenticated(self, self._address)
        self._expect()

    def _expect(self) -> None:
        """Set the deadline for what the client owes now; one that runs for the same thing goes on running."""
        cause = self._owes()
        if cause is None:
            self._disarm()
            return
        owed = (cause, self.cycle, self._connections.has_authenticated(self))
        if owed != self._owed:
            self._disarm()
            self._owed = owed
            self._deadline = self.loop.call_later(self._wait_s(cause, known=owed[2]), self._expired, cause)

    def _expired(self, cause: Cause) -> None:
        self._connections.expired(self, self._address, cause)

    def _disarm(self) -> None:
        self._owed = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _owes(self) -> Cause | None:
        if self.transport.is_closing() or self.flow.write_paused:
            return Cause.ANSWER_NOT_READ
        if self.conn.their_state is h11.SEND_BODY:
            return Cause.BODY_LATE
        if self.conn.their_state is h11.IDLE:
            return Cause.IDLE if self._answered and not self.conn.trailing_data[0] else Cause.HEADERS_LATE
        return None

    def _wait_s(self, cause: Cause, *, known: bool) -> float:
        limits = self._connections.limits
        match cause:
            case Cause.HEADERS_LATE:
                return limits.headers_s
            case Cause.BODY_LATE:
                return limits.body_s if known else limits.refused_body_s
            case Cause.IDLE:
                return limits.idle_s
            case _:
                return limits.unread_s


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """What counts as one address: whoever has one IPv6 address usually has 2^64."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()

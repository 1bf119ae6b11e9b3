"""The HTTP server: uvicorn's, behind an acceptor that takes callers with a valid token first.

Made by ``gateway.loop``, run on the one event-loop thread. To serve a connection costs ten times what it costs to
accept one; whoever opens thousands at once would keep everybody behind them in the kernel's queue, and out of it once
that is full. So the queue is emptied quickly, a connection with a valid token is served at once, the others wait for
their turn, and what is beyond the limits is closed before anything of it is parsed. Never blocks, and takes no byte out
of a connection that it peeks at: uvicorn reads everything again.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import uvicorn

from workers.gateway.http.connections import BoundedProtocol, Cause, Connections, network_of

IsValid: TypeAlias = Callable[[str], bool]
"""Whether a bearer token, as HTTP headers are decoded, is known here."""

ACCEPTED_AT_ONCE: Final = 256
"""Connections taken from the kernel between two turns of the event loop."""

SERVED_AT_ONCE: Final = 32
"""Connections without a valid token handed to the server between two turns of the event loop. Far fewer than one
address may have, so that a request that arrives with its connection is read before a flood from the same address
pushes it out."""

_PEEKED: Final = 4096
_PAUSE_S: Final = 0.5
"""After the process has run out of descriptors."""

_AUTHORIZATION: Final = re.compile(rb"\r\nauthorization:[ \t]*bearer[ \t]+([^\r\n]+)\r\n", re.IGNORECASE)


class Waiting:
    """Accepted connections that are not served yet, oldest first, within the limits of ``connections``."""

    def __init__(self, connections: Connections) -> None:
        """Closed connections are counted in ``connections``."""
        self._connections = connections
        self._by_address: dict[str, dict[socket.socket, None]] = {}
        self._order: dict[socket.socket, str] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, connection: socket.socket, address: str) -> None:
        """Where a limit is reached, the oldest of the address that has most is closed, or of its own."""
        limits = self._connections.limits
        if len(self._by_address.get(address, ())) >= limits.waiting_per_address:
            self._close_oldest(address, Cause.ADDRESS_LIMIT)
        elif len(self._order) >= limits.waiting:
            most = max(self._by_address, key=lambda each: len(self._by_address[each]))
            self._close_oldest(most, Cause.WAITING_LIMIT)
        self._by_address.setdefault(address, {})[connection] = None
        self._order[connection] = address

    def pop(self) -> socket.socket:
        """The oldest. Raises KeyError when there is none."""
        connection = next(iter(self._order), None)
        if connection is None:
            raise KeyError("nothing waits")
        self._remove(connection)
        return connection

    def close(self) -> None:
        """Close all of them."""
        for connection in self._order:
            connection.close()
        self._order.clear()
        self._by_address.clear()

    def _close_oldest(self, address: str, cause: Cause) -> None:
        oldest = next(iter(self._by_address[address]))
        self._remove(oldest)
        oldest.close()
        self._connections.closed[cause] += 1

    def _remove(self, connection: socket.socket) -> None:
        address = self._order.pop(connection)
        peers = self._by_address[address]
        del peers[connection]
        if not peers:
            del self._by_address[address]


class Acceptor:
    """Accepts on one listening socket, which stays its maker's."""

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        *,
        is_valid: IsValid,
        protocol: Callable[[bool], asyncio.Protocol],
    ) -> None:
        """``is_valid`` judges a bearer token; ``protocol`` makes what serves a connection, which has sent a valid
        token or not. Called on a running loop."""
        self._listener = listener
        self._is_valid = is_valid
        self._protocol = protocol
        self._waiting = Waiting(connections)
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        self._next: asyncio.Handle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept no more; what waits is closed."""
        self._loop.remove_reader(self._listener)
        if self._next is not None:
            self._next.cancel()
        self._waiting.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError:  # no descriptor is free: the kernel keeps them
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_S, self._resume)
                break
            if self._has_valid_token(connection):
                self._serve(connection, known=True)
            else:
                self._waiting.add(connection, network_of(str(peer[0])))
        self._serve_some()

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _serve_some(self) -> None:
        if self._next is not None:
            return
        for _ in range(min(SERVED_AT_ONCE, len(self._waiting))):
            self._serve(self._waiting.pop(), known=False)
        if self._waiting:
            self._next = self._loop.call_soon(self._serve_more)

    def _serve_more(self) -> None:
        self._next = None
        self._serve_some()

    def _serve(self, connection: socket.socket, *, known: bool) -> None:
        task: asyncio.Task[object] = self._loop.create_task(self._started(connection, known))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _started(self, connection: socket.socket, known: bool) -> None:
        with suppress(OSError):  # it ended meanwhile
            await self._loop.connect_accepted_socket(partial(self._protocol, known), connection)

    def _has_valid_token(self, connection: socket.socket) -> bool:
        try:
            head = connection.recv(_PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        found = _AUTHORIZATION.search(head.partition(b"\r\n\r\n")[0] + b"\r\n")
        return found is not None and self._is_valid(found[1].decode("latin-1"))


class Server(uvicorn.Server):
    """Serves one listening socket, which stays its maker's."""

    def __init__(self, app: Any, listener: socket.socket, connections: Connections, is_valid: IsValid) -> None:
        """``app`` is the ASGI application; ``is_valid`` judges a bearer token."""
        super().__init__(_server_config(app))
        self._listener = listener
        self._connections = connections
        self._is_valid = is_valid
        self._acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._acceptor = Acceptor(self._listener, self._connections, is_valid=self._is_valid, protocol=self._protocol)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        await super().shutdown(sockets)

    def _protocol(self, known: bool) -> asyncio.Protocol:
        return BoundedProtocol(self._connections, self.config, self.server_state, self.lifespan.state, known=known)


def _server_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )

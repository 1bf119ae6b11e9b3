"""The gateway's threads: the HTTP server, the writer to the log, and the relay of the audit trail.

Made by ``wiring.gateway``, run by the command line. The only module of the gateway that starts threads, listens or
waits. It stops in the opposite order: no more connections, then pending requests are answered, then the trail is
drained. Next: ``gateway.http.app``.
"""

import errno
import queue
import resource
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from workers.domain.errors import ConfigError, InUse, MalformedMessage, TransientFailure
from workers.domain.log.record import OutRecord
from workers.gateway.audit_trail import AuditTrail
from workers.gateway.http.connections import Connections, Limits
from workers.gateway.http.server import IsValid, Server
from workers.log.ports import LogWriter, Relay
from workers.service import Service
from workers.system.ports import Clock, StopSignal, Telemetry

ACK_WAIT_S: Final = 10.0
"""How long a caller waits for the log before it is answered that it should try again."""

_IDLE_S: Final = 0.2
_ACK_POLL_S: Final = 0.005
_DRAIN_S: Final = 5.0
_REFUSALS_EVERY_NS: Final = 60_000_000_000
_MANY_DESCRIPTORS: Final = 1 << 20
_BACKLOG: Final = 1 << 16
"""Connections that the kernel keeps until they are accepted, if ``net.core.somaxconn`` allows; one beyond it tries
again after a second."""


@dataclass(frozen=True, slots=True)
class _Pending:
    record: OutRecord
    result: "Future[str]"
    """The empty text once the log has it, else why not."""


class Appender:
    """Many callers, one writer: ``LogWriter`` belongs to one thread, which calls ``step``."""

    def __init__(self, writer: LogWriter, *, wait_s: float = ACK_WAIT_S, drain_s: float = _DRAIN_S) -> None:
        """``wait_s`` is how long a caller waits, ``drain_s`` how long the end may take."""
        self._writer = writer
        self._wait_s = wait_s
        self._drain_s = drain_s
        self._jobs: queue.SimpleQueue[_Pending] = queue.SimpleQueue()
        self._under_way: dict[int, _Pending] = {}
        self._last = 0

    def append(self, records: Sequence[OutRecord]) -> None:
        """See ``intake.Append``. Blocks up to ``wait_s``."""
        jobs = [_Pending(record, Future()) for record in records]
        for job in jobs:
            self._jobs.put(job)
        late = wait_for([job.result for job in jobs], timeout=self._wait_s).not_done
        if late:
            raise TransientFailure(f"the log did not acknowledge within {self._wait_s:g} s; try again", code="log_away")
        failed = next((reason for job in jobs if (reason := job.result.result())), "")
        if failed:
            raise TransientFailure(f"the log did not accept the record ({failed}); try again", code="log_refused")

    def step(self) -> None:
        """Send what callers queued and take in acknowledgements; waits a moment when there is nothing to do."""
        self._send(wait_s=0.0 if self._under_way else _IDLE_S)
        for ack in self._writer.acks(_ACK_POLL_S if self._under_way else 0.0):
            job = self._under_way.pop(ack.token, None)
            if job is not None:
                job.result.set_result(ack.error)

    def drain(self, clock: Clock) -> None:
        """Finish what is under way, for up to ``drain_s``."""
        end_ns = clock.monotonic_ns() + round(self._drain_s * 1e9)
        while (self._under_way or not self._jobs.empty()) and clock.monotonic_ns() < end_ns:
            self.step()

    def _send(self, wait_s: float) -> None:
        try:
            job = self._jobs.get(timeout=wait_s) if wait_s else self._jobs.get_nowait()
            while True:
                self._send_one(job)
                job = self._jobs.get_nowait()
        except queue.Empty:
            return

    def _send_one(self, job: _Pending) -> None:
        self._last += 1
        try:
            self._writer.send(job.record, token=self._last)
        except (TransientFailure, MalformedMessage) as error:
            job.result.set_result(error.reason)
        except Exception as error:  # noqa: BLE001 - the caller reports it; this thread goes on
            job.result.set_exception(error)
        else:
            self._under_way[self._last] = job


@dataclass(slots=True)
class _Logged:
    """What the log has of the connections closed for one cause."""

    count: int = 0
    due_ns: int = 0


class Loop:
    """Implements ``Runnable``."""

    def __init__(
        self,
        app: Any,
        *,
        is_valid: IsValid,
        host: str,
        port: int,
        appender: Appender,
        relay: Relay,
        trail: AuditTrail,
        telemetry: Telemetry,
        clock: Clock,
        close: Callable[[], None],
    ) -> None:
        """``app`` is the ASGI application, ``is_valid`` judges a bearer token, ``close`` closes what wiring opened.
        Port 0 takes a free one."""
        self._app = app
        self._is_valid = is_valid
        self._address = (host, port)
        self._appender = appender
        self._relay = relay
        self._trail = trail
        self._telemetry = telemetry
        self._clock = clock
        self._close = close
        self._service = Service(telemetry, retry_on=())
        self._threads: Sequence[threading.Thread] = ()
        self._refusals_due_ns = 0
        self._connections = Connections(Limits())
        self._closed_logged = {cause: _Logged() for cause in self._connections.closed}
        self.port = port
        """Where it listens, once ``run`` has begun."""

    def run(self, stop: StopSignal) -> None:
        """Serve until ``stop`` is set, then finish what was begun.

        Raises:
            ConfigError: the port cannot be used.
            TransientFailure: a thread ended by itself.
        """
        ends = ExitStack()
        ends.callback(self._close)
        start = partial(self._start, ends)
        self._service.run(stop, start=(start,), step=self._step, drain=self._write_refusals, close=ends.close)

    def _start(self, ends: ExitStack) -> None:
        """Start the threads; ``ends`` has how each ends, newest first."""
        listener = self._listen()
        ends.callback(self._drain_trail)
        ends.callback(listener.close)

        answered = threading.Event()
        append = self._service.start_thread("gateway-append", self._appender.step, answered)
        ends.callback(self._appender.drain, self._clock)
        ends.callback(append.join)
        ends.callback(answered.set)

        self._connections = Connections(Limits.within(_raised_descriptor_limit()))
        server = Server(self._app, listener, self._connections, self._is_valid)
        http = threading.Thread(target=server.run, name="gateway-http")
        http.start()
        ends.callback(http.join)
        ends.callback(setattr, server, "should_exit", True)

        self._threads = (append, http)
        self._trail.started()
        self._telemetry.log("gateway_started", host=self._address[0], port=self.port)
        self._refusals_due_ns = self._clock.monotonic_ns() + _REFUSALS_EVERY_NS

    def _step(self) -> float:
        """Relay the trail while both threads live; the callers' own records never wait for this."""
        if ended := [thread.name for thread in self._threads if not thread.is_alive()]:
            raise TransientFailure(f"{ended[0]} ended by itself", code="thread_ended")
        if self._clock.monotonic_ns() >= self._refusals_due_ns:
            self._refusals_due_ns = self._clock.monotonic_ns() + _REFUSALS_EVERY_NS
            self._write_refusals()
        self._log_closed()
        return 0.0 if self._relay.step(_ACK_POLL_S) else _IDLE_S

    def _log_closed(self) -> None:
        """One line a cause a minute, however many connections were closed."""
        now_ns = self._clock.monotonic_ns()
        for cause, logged in self._closed_logged.items():
            closed = self._connections.closed[cause] - logged.count
            if closed and now_ns >= logged.due_ns:
                logged.count, logged.due_ns = logged.count + closed, now_ns + _REFUSALS_EVERY_NS
                self._telemetry.log("connections_closed", level="warning", cause=str(cause), count=closed)
                self._telemetry.count("gateway.connections_closed", closed, labels={"cause": str(cause)})

    def _write_refusals(self) -> None:
        with suppress(TransientFailure):  # the outbox is full, the log unavailable: the counts are kept
            self._trail.write_refusals()

    def _drain_trail(self) -> None:
        self._relay.drain(_DRAIN_S)
        self._telemetry.log("gateway_stopped")

    def _listen(self) -> socket.socket:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            kind = InUse if error.errno == errno.EADDRINUSE else ConfigError
            raise kind(f"cannot listen on {host} port {port}: {error.strerror}; choose another port") from None
        # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not, and
        # without it every answer waits 40 ms for the client's delayed acknowledgement of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        return listener


def _raised_descriptor_limit() -> int:
    """The hard limit of open files, which is the soft one from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else _MANY_DESCRIPTORS

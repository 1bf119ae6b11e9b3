"""The gateway's threads: the HTTP server, the writer to the log, and the relay of the audit trail.

Made by bootstrap. The only place of this room that starts threads, listens or waits. Stops in the opposite order: no
more connections, then what was asked is answered, then the trail is drained.
"""

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from workers.domain.errors import ConfigError, MalformedMessage, TransientFailure
from workers.domain.log.record import OutRecord
from workers.gateway.trail import Trail
from workers.log.ports import LogWriter, Relay
from workers.system.ports import Clock, StopSignal, Telemetry

ACK_WAIT_S: Final = 10.0
"""How long a caller waits for the log before he is told to try again."""

_IDLE_S: Final = 0.2
_ACK_POLL_S: Final = 0.005
_DRAIN_S: Final = 5.0
_REFUSALS_EVERY_S: Final = 60.0
_BACKLOG: Final = 256


@dataclass(frozen=True, slots=True)
class _Job:
    record: OutRecord
    fate: "Future[str]"
    """The empty text once the log has it, else why not."""


class Appender:
    """Many callers, one writer: ``LogWriter`` belongs to one thread."""

    def __init__(self, writer: LogWriter, *, wait_s: float = ACK_WAIT_S, drain_s: float = _DRAIN_S) -> None:
        """``pump`` must run somewhere. ``wait_s`` is how long a caller waits, ``drain_s`` how long the end may take."""
        self._writer = writer
        self._wait_s = wait_s
        self._drain_s = drain_s
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._under_way: dict[int, _Job] = {}
        self._last = 0

    def append(self, records: Sequence[OutRecord]) -> None:
        """See ``intake.Append``. Blocks up to ``wait_s``."""
        jobs = [_Job(record, Future()) for record in records]
        for job in jobs:
            self._jobs.put(job)
        late = wait_for([job.fate for job in jobs], timeout=self._wait_s).not_done
        if late:
            raise TransientFailure(f"the log did not acknowledge within {self._wait_s:g} s; ask again", code="log_away")
        failed = next((reason for job in jobs if (reason := job.fate.result())), "")
        if failed:
            raise TransientFailure(f"the log did not take it ({failed}); ask again", code="log_refused")

    def pump(self, stop: StopSignal, clock: Clock) -> None:
        """Send and take in acknowledgements until ``stop`` is set, then finish what is under way, for a short while."""
        stopped_ns = 0
        while not stopped_ns or self._unfinished(clock.monotonic_ns() - stopped_ns):
            self._send(wait_s=0.0 if self._under_way else _IDLE_S)
            for ack in self._writer.acks(_ACK_POLL_S if self._under_way else 0.0):
                job = self._under_way.pop(ack.token, None)
                if job is not None:
                    job.fate.set_result(ack.error)
            if not stopped_ns and stop.is_set():
                stopped_ns = clock.monotonic_ns()

    def _unfinished(self, since_ns: int) -> bool:
        return (bool(self._under_way) or not self._jobs.empty()) and since_ns < self._drain_s * 1e9

    def _send(self, wait_s: float) -> None:
        try:
            job = self._jobs.get(timeout=wait_s) if wait_s else self._jobs.get_nowait()
            while True:
                self._send_one(job)
                job = self._jobs.get_nowait()
        except queue.Empty:
            return

    def _send_one(self, job: _Job) -> None:
        self._last += 1
        try:
            self._writer.send(job.record, token=self._last)
        except (TransientFailure, MalformedMessage) as error:
            job.fate.set_result(error.reason)
        except Exception as error:  # noqa: BLE001 - the caller's to report; this thread serves the others
            job.fate.set_exception(error)
        else:
            self._under_way[self._last] = job


class Loop:
    """The gateway, running."""

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        appender: Appender,
        relay: Relay,
        trail: Trail,
        telemetry: Telemetry,
        clock: Clock,
        close: Callable[[], None],
    ) -> None:
        """``app`` is the ASGI application; ``close`` lets go of what wiring opened. Port 0 takes a free one."""
        self._app = app
        self._address = (host, port)
        self._appender = appender
        self._relay = relay
        self._trail = trail
        self._telemetry = telemetry
        self._clock = clock
        self._close = close
        self.port = port
        """Where it listens, once ``run`` has begun."""

    def run(self, stop: StopSignal) -> None:
        """Serve until ``stop`` is set, then finish what was begun.

        Raises:
            ConfigError: the port cannot be had.
        """
        listener = self._listen()
        pumped = threading.Event()
        pump = threading.Thread(target=self._appender.pump, args=(pumped, self._clock), name="gateway-append")
        server = uvicorn.Server(_server_config(self._app))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway-http")
        pump.start()
        serving.start()
        try:
            self._trail.started()
            self._telemetry.log("gateway_started", host=self._address[0], port=self.port)
            self._tend(stop, (pump, serving))
        finally:
            server.should_exit = True
            serving.join()
            pumped.set()
            pump.join()
            listener.close()
            self._relay.drain(_DRAIN_S)
            self._close()
            self._telemetry.log("gateway_stopped")

    def _tend(self, stop: StopSignal, threads: Sequence[threading.Thread]) -> None:
        """Relay the trail while both threads live; the callers' own records never wait for this."""
        refusals_at = self._clock.monotonic_ns()
        while not stop.wait(0 if self._relay.step(_ACK_POLL_S) else _IDLE_S):
            if ended := [thread.name for thread in threads if not thread.is_alive()]:
                raise TransientFailure(f"{ended[0]} ended by itself", code="thread_ended")
            now = self._clock.monotonic_ns()
            if now - refusals_at >= _REFUSALS_EVERY_S * 1e9:
                refusals_at = now
                self._write_refusals()
        self._write_refusals()

    def _write_refusals(self) -> None:
        with suppress(
            TransientFailure
        ):  # the outbox is full, the log away: the counts are kept, and this one serves on
            self._trail.write_refusals()

    def _listen(self) -> socket.socket:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}; choose another port") from None
        # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not, and
        # without it every answer waits 40 ms for the client's delayed acknowledgement of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        return listener


def _server_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )

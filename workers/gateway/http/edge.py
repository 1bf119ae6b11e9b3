"""The outermost layer: bounds every body, answers what was raised before a route, and stamps every answer.

Wraps the application as ASGI; made by ``app``, with Starlette's authentication between ``Edge`` and ``BoundedBody``.
Runs on the one event-loop thread and never blocks it. An unexpected exception becomes a plain 500; the log gets its
traceback.
"""

import asyncio
import traceback
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.domain.errors import TransientFailure
from workers.gateway.audit_trail import AuditTrail
from workers.gateway.http import errors
from workers.gateway.principals import RateLimit
from workers.gateway.refusals import Refused, TooLarge, TooMany, Unauthorized
from workers.system.ports import Clock, Telemetry

LARGEST_BODY: Final = 8 << 20
"""Bytes: a batch of Falco alerts at about 1.5 kB is five thousand."""

BODY_WAIT_S: Final = 30.0
"""How long a body may take to arrive."""

FORBIDDEN: Final = 403


class _Disconnected(Exception):
    """The client closed the connection before its body had arrived."""


class Edge:
    """The ASGI application that is served."""

    def __init__(
        self, app: ASGIApp, *, limit: RateLimit, trail: AuditTrail, telemetry: Telemetry, clock: Clock
    ) -> None:
        """Wrap ``app``; ``limit`` is named in every answer."""
        self._app = app
        self._limit = limit
        self._trail = trail
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_ns = self._clock.monotonic_ns()
        answered: list[int] = []

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                if message["status"] == FORBIDDEN:
                    self._count_refusal("forbidden")
                message["headers"] = [*message["headers"], *self._headers()]
            await send(message)

        try:
            await self._app(scope, receive, reply)
        except _Disconnected:
            return
        except (Refused, TransientFailure) as error:
            if isinstance(error, Unauthorized | TooMany):
                self._count_refusal(error.reason)
            await errors.of_error(error, scope["path"])(scope, receive, reply)
        except Exception as error:  # noqa: BLE001 - the outermost layer: the client gets a 500 and the log the traceback
            self._telemetry.log("gateway_internal", level="error", error=_traced(error), path=scope["path"])
            if not answered:
                await errors.internal(scope["path"])(scope, receive, reply)
        took_s = (self._clock.monotonic_ns() - started_ns) / 1e9
        self._telemetry.count("gateway.answers", labels={"status": str(answered[0]) if answered else "none"})
        self._telemetry.observe("gateway.answer.duration", took_s)

    def _count_refusal(self, reason: str) -> None:
        self._trail.refused(reason)
        self._telemetry.count("gateway.refused", labels={"reason": reason})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit", str(self._limit.a_minute).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]


class BoundedBody:
    """Reads a body of limited size within limited time before the application sees the request."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            TooLarge: the body is, or states to be, larger than ``LARGEST_BODY``.
            TransientFailure: it did not arrive in time.
        """
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if stated.isdigit() and int(stated[:20]) > LARGEST_BODY:
            raise _too_large()
        try:
            body = await asyncio.wait_for(_read(receive), BODY_WAIT_S)
        except TimeoutError:
            raise TransientFailure("the body took too long to arrive", code="timeout") from None
        await self._app(scope, _replayed(body, receive), send)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever else comes (a disconnect)."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large() -> TooLarge:
    return TooLarge(f"the body is larger than {LARGEST_BODY} bytes; send it in parts")


def _traced(error: Exception) -> str:
    return "".join(traceback.format_exception(error))

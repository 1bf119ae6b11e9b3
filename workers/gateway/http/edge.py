"""The edge: what is done to every request before any route sees it, and to every answer before it leaves.

Wraps the application as ASGI. Who is calling comes first, then how often; then the body, bounded. Runs on the one
event-loop thread and never blocks it. An exception that nobody named becomes a plain 500; the log gets its traceback.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from workers.domain.errors import TransientFailure
from workers.gateway.http import answers
from workers.gateway.http.services import PREFIX
from workers.gateway.principals import Principal, RateLimit, Tokens
from workers.gateway.refusals import Refused, TooLarge, TooMany, Unauthorized
from workers.gateway.trail import Trail
from workers.system.ports import Clock, Telemetry

LARGEST_BODY: Final = 8 << 20
"""Bytes: a batch of Falco alerts at about 1.5 kB is five thousand."""

BODY_WAIT_S: Final = 30.0
"""How long a body may take to arrive."""

HEALTH: Final = f"{PREFIX}/health"
OPENAPI: Final = "/openapi.json"

FORBIDDEN: Final = 403

_OPEN: Final = frozenset({HEALTH, OPENAPI})
"""Readable without a token; a wrong token is refused here too."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class _Gone(Exception):
    """The client went away before its body had arrived."""


class Edge:
    """The ASGI application that is served."""

    def __init__(
        self, app: App, *, tokens: Tokens, limit: RateLimit, trail: Trail, telemetry: Telemetry, clock: Clock
    ) -> None:
        """Wrap ``app``."""
        self._app = app
        self._tokens = tokens
        self._limit = limit
        self._trail = trail
        self._telemetry = telemetry
        self._clock = clock

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection's worth of ASGI."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
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
            await self._admit(scope, receive, reply)
        except _Gone:
            return
        except (Refused, TransientFailure) as error:
            await answers.of_error(error, scope["path"])(scope, receive, reply)
        except Exception as error:  # noqa: BLE001 - the outermost place: whatever it is, the client gets a 500 and the log the rest
            self._telemetry.log("gateway_internal", level="error", error=_traced(error), path=scope["path"])
            if not answered:
                await answers.internal(scope["path"])(scope, receive, reply)
        took_s = (self._clock.monotonic_ns() - started_ns) / 1e9
        self._telemetry.count("gateway.answers", labels={"status": str(answered[0]) if answered else "none"})
        self._telemetry.observe("gateway.answer.duration", took_s)

    async def _admit(self, scope: Message, receive: Receive, send: Send) -> None:
        principal = self._principal(scope)
        if principal is not None:
            try:
                self._limit.take(principal)
            except TooMany as error:
                self._count_refusal(error.reason)
                raise
        scope.setdefault("state", {})["principal"] = principal
        body = await self._body(scope, receive)
        await self._app(scope, _replayed(body, receive), send)

    def _principal(self, scope: Message) -> Principal | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given and scope["method"] in ("GET", "HEAD") and scope["path"] in _OPEN:
            return None
        try:
            return self._tokens.principal(given[0] if len(given) == 1 else None)
        except Unauthorized as error:
            self._count_refusal(error.reason)
            raise

    def _count_refusal(self, reason: str) -> None:
        self._trail.refused(reason)
        self._telemetry.count("gateway.refused", labels={"reason": reason})

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if stated.isdigit() and int(stated[:20]) > LARGEST_BODY:
            raise _too_large()
        try:
            return await asyncio.wait_for(_read(receive), BODY_WAIT_S)
        except TimeoutError:
            raise TransientFailure("the body took too long to arrive", code="timeout") from None

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit", str(self._limit.a_minute).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
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
    return TooLarge(f"the body is larger than {LARGEST_BODY} bytes; hand it in in parts")


def _traced(error: Exception) -> str:
    return "".join(traceback.format_exception(error))

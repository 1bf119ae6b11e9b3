"""Telemetry without an endpoint: log lines, and trace contexts passed on so that those who do export see one trace.

Made by this package; imports nothing of OpenTelemetry.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from workers.domain.log.record import Headers
from workers.domain.log.trace_context import TraceContext, context_of
from workers.domain.outcome import NOTHING, Values
from workers.system.logs import StructuredLog

_CURRENT: ContextVar[TraceContext | None] = ContextVar("douse_trace", default=None)

NO_LABELS: Mapping[str, str] = {}


class QuietSpan:
    """A position in a trace; carries no attributes."""

    __slots__ = ("_context",)

    def __init__(self, context: TraceContext) -> None:
        self._context = context

    def headers(self) -> Headers:
        """The trace context to put on records."""
        return self._context.headers()

    def note(self, name: str, value: str | int | bool) -> None:
        """Nothing: it would not be exported."""


class QuietTelemetry:
    """Logs; counts nothing, exports nothing."""

    def __init__(self, log: StructuredLog) -> None:
        """``log`` takes the lines."""
        self._log = log

    @contextmanager
    def span(self, name: str, *, parent: Headers = (), attributes: Values = NOTHING) -> Iterator[QuietSpan]:
        """A span of the parent's trace, else of the one around it, else of a new one."""
        around = context_of(parent) or _CURRENT.get()
        context = TraceContext(
            around.trace_id if around else secrets.randbits(128) or 1,
            secrets.randbits(64) or 1,
            around.sampled if around else True,
        )
        token = _CURRENT.set(context)
        try:
            yield QuietSpan(context)
        finally:
            _CURRENT.reset(token)

    def count(self, metric: str, by: int = 1, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Nothing."""

    def observe(self, metric: str, seconds: float, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Nothing."""

    def gauge(self, metric: str, value: int) -> None:
        """Nothing."""

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """One line, with the trace it belongs to."""
        context = _CURRENT.get()
        trace = {"trace_id": f"{context.trace_id:032x}"} if context else {}
        self._log.write(event, level, {**fields, **trace})

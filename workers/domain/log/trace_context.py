"""The trace context on a Kafka record: one ``traceparent`` header, as W3C Trace Context level 1 writes it.

Called by ``system.telemetry`` on both sides of every topic. Pure. Headers are not trusted: what is not exactly
a trace context starts a new trace.
"""

import re
from dataclasses import dataclass
from typing import Final

from workers.domain.log.record import Headers

HEADER: Final = "traceparent"

_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace and span that a record came from."""

    trace_id: int
    span_id: int
    sampled: bool = True

    def headers(self) -> Headers:
        """What to put on a record."""
        return ((HEADER, f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}".encode()),)


def context_of(headers: Headers) -> TraceContext | None:
    """The context that a record carries; the first header of that name counts."""
    value = next((value for name, value in headers if name == HEADER), b"")
    found = _FORM.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # Version 00 ends after the flags; later ones may go on; ff is forbidden.
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    context = TraceContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return context if context.trace_id and context.span_id else None

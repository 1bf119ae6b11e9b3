"""What a worker needs of its own process: time, randomness, telemetry, failpoints, retries, a signal to stop.

Implemented in this package; the fakes are in ``tests/fakes``. Nothing here raises unless stated, and nothing blocks
but ``sleep``, ``wait``, ``run`` and a retried call: a step function may use the rest anywhere.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from workers.domain.log.record import Headers
from workers.domain.outcome import Values

T = TypeVar("T")


class Clock(Protocol):
    """Time. Deadlines never use it alone: see the journal's floor."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch. Does not block."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back, for durations. Does not block."""

    def sleep(self, seconds: float) -> None:
        """Blocks. Only loops and the retry doorway call it."""


class Randomness(Protocol):
    """Randomness."""

    def bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes. Does not block."""


class Span(Protocol):
    """One traced piece of work."""

    def headers(self) -> Headers:
        """The trace context to put on records this work writes; empty when tracing is off."""

    def note(self, name: str, value: str | int | bool) -> None:
        """Add an attribute from the allow-list; anything else is dropped."""


class Telemetry(Protocol):
    """Traces, metrics and log lines. Never raises, never blocks on the network."""

    def span(self, name: str, *, parent: Headers = (), attributes: Values = ...) -> AbstractContextManager[Span]:
        """A span around a block; an exception passing through marks it failed."""

    def count(self, metric: str, by: int = 1, *, labels: Mapping[str, str] = ...) -> None:
        """Add to a counter named in the metric catalogue."""

    def observe(self, metric: str, seconds: float, *, labels: Mapping[str, str] = ...) -> None:
        """Record a duration in a histogram named in the metric catalogue."""

    def gauge(self, metric: str, value: int) -> None:
        """Set a gauge named in the metric catalogue."""

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """One structured line; ``level`` is debug, info, warning or error. Never file contents, never secrets."""


class Failpoints(Protocol):
    """Named points where a test may end the process or raise; a no-op in production."""

    def reach(self, name: str) -> None:
        """Pass the failpoint ``name``. May raise or never return when a test armed it."""


class StopSignal(Protocol):
    """Says when to stop; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it is set or the time (seconds) is over; whether it is set."""


class Runnable(Protocol):
    """A worker, put together and ready."""

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then drain. Blocks."""


class Retrying(Protocol):
    """The retry doorway."""

    def run(self, attempt: Callable[[int], T], *, first: int, deadline_ns: int) -> T:
        """Call ``attempt(n)`` with n counting from ``first`` until it returns, on ``TransientFailure`` only, with
        full jitter, never past ``deadline_ns``; then the last failure comes through. Blocks."""

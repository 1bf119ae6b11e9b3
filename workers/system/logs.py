"""Log lines: one structured line an event, JSON or for a console, on standard error. The one doorway of structlog.

Called by ``system.telemetry`` alone. Text is bounded and what looks like a secret is masked before it is written; a
standard error that is no longer read stops no worker. Whoever can cause a warning cannot fill the disk with it: so many
lines a minute are written for one cause, and the next line states how many were not.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

import structlog

from workers.domain.targets.redaction import mask

LONGEST_FIELD: Final = 2048
"""Characters of one field; a Kafka error with its broker list fits, a file's content does not."""

LINES_A_MINUTE: Final = 30
"""Warnings or errors of one event; a worker's information is as much as its work and is not limited."""

_MINUTE_NS: Final = 60_000_000_000

_CAUSE: Final = 60
"""Characters of a text that tell causes apart: the rest may be what a stranger sent."""

_CAUSES: Final = ("alarm", "cause", "library", "reason")
"""Fields that tell causes of one event apart: stable codes."""

_MOST_CAUSES: Final = 256
"""Kept apart; further ones share a limit."""

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class RepeatLimit:
    """So many lines a minute for each cause. Any thread: a race may write one line more or miscount by one."""

    def __init__(self, a_minute: int, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """``now_ns`` never goes back."""
        self._a_minute = a_minute
        self._now_ns = now_ns
        self._causes: dict[str, _Minute] = {}

    def take(self, cause: str) -> int | None:
        """Whether a line may be written: how many were not since the last one, or None if this one may not either."""
        now_ns = self._now_ns()
        if cause not in self._causes and len(self._causes) >= _MOST_CAUSES:
            cause = ""
        minute = self._causes.setdefault(cause, _Minute(now_ns))
        if now_ns - minute.began_ns >= _MINUTE_NS:
            minute.began_ns, minute.written = now_ns, 0
        if minute.written >= self._a_minute:
            minute.suppressed += 1
            return None
        minute.written += 1
        suppressed, minute.suppressed = minute.suppressed, 0
        return suppressed


@dataclass(slots=True)
class _Minute:
    """The lines of one cause."""

    began_ns: int
    written: int = 0
    suppressed: int = 0


class StructuredLog:
    """Writes lines of one worker."""

    def __init__(
        self,
        format_: Literal["console", "json"],
        level: str = "info",
        *,
        bound: Mapping[str, str] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """``bound`` is on every line: the worker's name, its instance."""
        file = stream if stream is not None else sys.stderr
        colours = format_ == "console" and file.isatty()
        self._threshold = _LEVELS[level]
        self._limit = RepeatLimit(LINES_A_MINUTE)
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.dev.ConsoleRenderer(colors=colours)
                if format_ == "console"
                else structlog.processors.JSONRenderer(default=str, ensure_ascii=True),
            ],
            wrapper_class=structlog.BoundLogger,
        ).bind(**(bound or {}))

    def write(self, event: str, level: str, fields: Mapping[str, object]) -> None:
        """One line; below the threshold nothing. Never raises."""
        severity = _LEVELS.get(level, logging.ERROR)
        if severity < self._threshold:
            return
        if severity >= logging.WARNING:
            suppressed = self._limit.take(" ".join([event, *(str(fields.get(name, ""))[:_CAUSE] for name in _CAUSES)]))
            if suppressed is None:
                return
            fields = {**fields, "suppressed": suppressed} if suppressed else fields
        clean: dict[str, Any] = {name: _clean(value) for name, value in fields.items()}
        with contextlib.suppress(OSError, ValueError):  # a closed or broken standard error
            self._logger.info(event, level=level, **clean)

    def adopt(self, *loggers: str) -> None:
        """Take over the lines that libraries write by the standard library's loggers, warnings and worse: one a minute
        for each cause."""
        for name in loggers:
            library = logging.getLogger(name)
            library.handlers = [_Adopted(self)]
            library.propagate = False
            library.setLevel(logging.WARNING)


class _Adopted(logging.Handler):
    """A library's log lines, in the format of this worker's."""

    def __init__(self, log: StructuredLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._limit = RepeatLimit(1)

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a library's format string may not fit its arguments."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text} ({record.exc_info[0].__name__})"
        level = "error" if record.levelno >= logging.ERROR else "warning"
        suppressed = self._limit.take(f"{record.name} {str(record.msg)[:_CAUSE]}")
        if suppressed is not None:
            repeated = {"suppressed": suppressed} if suppressed else {}
            self._log.write("library", level, {"library": record.name, "text": text, **repeated})


def _clean(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    cut = text if len(text) <= LONGEST_FIELD else text[: LONGEST_FIELD - 1] + "…"
    return mask(cut.encode("utf-8", "backslashreplace").decode())

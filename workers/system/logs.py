"""Log lines: one structured line an event, JSON or for a console, on standard error. The one doorway of structlog.

Called by ``system.telemetry`` alone. Text is bounded and what looks like a secret is masked before it is written; a
standard error that is no longer read stops no worker.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog

from workers.domain.targets.redaction import mask

LONGEST_FIELD: Final = 2048
"""Characters of one field; a Kafka error with its broker list fits, a file's content does not."""

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


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
        if _LEVELS.get(level, logging.ERROR) < self._threshold:
            return
        clean: dict[str, Any] = {name: _clean(value) for name, value in fields.items()}
        with contextlib.suppress(OSError, ValueError):  # a closed or broken standard error
            self._logger.info(event, level=level, **clean)

    def adopt(self, *loggers: str) -> None:
        """Take over the lines that libraries write by the standard library's loggers, warnings and worse."""
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

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a library's format string may not fit its arguments."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.write("library", level, {"library": record.name, "text": text})


def _clean(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    cut = text if len(text) <= LONGEST_FIELD else text[: LONGEST_FIELD - 1] + "…"
    return mask(cut.encode("utf-8", "backslashreplace").decode())

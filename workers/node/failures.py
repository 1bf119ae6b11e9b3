"""The only module of the node where an exception becomes an outcome: a report of a command, or a dead letter.

Called around verification and around an action's admit, bind, execute and probe; nothing above it catches. An
unavailable journal always comes through: it is no fact about the command.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from workers.domain.command import ActionCommand
from workers.domain.errors import Disposition, JournalUnavailable, WorkerError, disposition, reason_of
from workers.domain.outcome import Outcome, PostCondition, Report, code
from workers.system.ports import Telemetry

T = TypeVar("T")

_OUTCOMES = {
    Disposition.REJECT: Outcome.REJECTED,
    Disposition.PROBE: Outcome.UNKNOWN,
}
"""Everything else failed: a retry that comes this far has had its last try."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why bytes are not a command."""

    reason: str
    message: str


class Failures:
    """Turns exceptions into reports; counts and logs those that are bugs."""

    def __init__(self, telemetry: Telemetry) -> None:
        """``telemetry`` gets every bug, with its traceback."""
        self._telemetry = telemetry

    def guard(self, command: ActionCommand, call: Callable[[], T]) -> "T | Report":
        """What ``call`` returns, or the report that its exception amounts to.

        Raises:
            JournalUnavailable: as it came.
        """
        try:
            return call()
        except JournalUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an action raises must become an outcome
            return self._report(command, error)

    def readable(self, call: Callable[[], T]) -> "T | Unreadable":
        """What ``call`` returns, or why the bytes it looked at go to the dead letters."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - hostile bytes that trip a bug must cost one record, not the worker
            if disposition(error) is not Disposition.DEAD_LETTER:
                self._bug(error)
            return Unreadable(reason_of(error), _line(error))

    def _report(self, command: ActionCommand, error: Exception) -> Report:
        if not isinstance(error, WorkerError):
            self._bug(error, execution_id=command.command_id, action=command.action)
        outcome = _OUTCOMES.get(disposition(error), Outcome.FAILED)
        detail = error.detail if isinstance(error, WorkerError) else ""
        answered = PostCondition("answered", holds=False, detail=_printable(detail)) if detail else None
        return Report(outcome, code(command.action, outcome, reason_of(error)), _line(error), answered)

    def _bug(self, error: Exception, **fields: object) -> None:
        self._telemetry.count("node.bugs", labels={"error": type(error).__name__})
        self._telemetry.log(
            "bug",
            level="error",
            error=type(error).__name__,
            where="".join(traceback.format_tb(error.__traceback__)),
            **fields,
        )


def _printable(text: str) -> str:
    """A foreign text without what could move a cursor or cannot be encoded."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _line(error: Exception) -> str:
    """One line for people. A bug's own text stays in the log: it may quote what it tripped over."""
    return error.message if isinstance(error, WorkerError) else f"a bug in this worker: {type(error).__name__}"

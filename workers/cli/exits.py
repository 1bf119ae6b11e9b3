"""Exit codes, by class of what went wrong. Used by every command; documented in ``douse --help``."""

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """The exit status."""

    OK = 0
    """Done."""
    FAILED = 1
    """The work itself failed: an outcome that is not a success, a check that did not hold."""
    USAGE = 2
    """Bad arguments or a bad configuration; nothing was started."""
    UNREACHABLE = 3
    """The gateway or broker does not answer."""
    REFUSED = 4
    """Not allowed, or not possible any more: token, permission, protected target, what was undone already."""
    NOT_FOUND = 5
    """There is no such execution, event, node, file, process or path."""
    BUSY = 6
    """Another process uses the data directory or the port."""


LEGEND: Final = (
    "Exit codes: 0 done; 1 the work failed; 2 bad arguments or settings, nothing was started; "
    "3 gateway or broker does not answer; 4 refused; 5 not found; 6 in use by another process."
)


class Failure(Exception):
    """Ends a command with one line on standard error and an exit status."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        """``message`` is what was wrong and what to do."""
        super().__init__(message)
        self.exit_code = exit_code

"""Exit codes, by class of what went wrong. Used by every command; documented in ``douse --help``."""

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """What the shell sees."""

    OK = 0
    FAILED = 1
    """The work itself failed: an outcome that is no success, a check that did not hold."""
    USAGE = 2
    """Bad arguments or a bad configuration; nothing was started."""
    UNREACHABLE = 3
    """The gateway or broker does not answer."""
    REFUSED = 4
    """Not allowed: token, permission, protected target."""
    NOT_FOUND = 5
    BUSY = 6
    """Somebody else holds the data directory or the port."""


LEGEND: Final = (
    "Exit codes: 0 done; 1 the work failed; 2 bad arguments or settings, nothing was started; "
    "3 gateway or broker does not answer; 4 not allowed; 5 no such thing; 6 in use by somebody else."
)


class Failure(Exception):
    """A command ends here: one line for the person, one code for the shell."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        """``message`` says what was wrong and what to do."""
        super().__init__(message)
        self.exit_code = exit_code

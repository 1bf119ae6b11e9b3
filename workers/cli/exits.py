"""Exit codes, by class of what went wrong. Called by every command; documented in ``douse --help``."""

from enum import IntEnum


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

"""Every class of failure, and the one function that decides what to do about each.

Raised by doorways, actions and the workers' steps; read by ``disposition``. An exception becomes an outcome or a dead
letter in exactly one function of each worker; nothing above that function catches.
"""

from enum import Enum, auto
from typing import ClassVar


class Disposition(Enum):
    """What a worker does with a failure."""

    STOP = auto()
    DEAD_LETTER = auto()
    REJECT = auto()
    RETRY = auto()
    FAIL = auto()
    PROBE = auto()


class WorkerError(Exception):
    """A worker could not continue."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str = "", /, *, code: str | None = None, detail: str = "") -> None:
        """``message`` defaults to the class's docstring; ``code`` narrows the class's own wire code; ``detail`` is the
        raw text of another program, which never is part of a message."""
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        self.reason = code or type(self).code
        self.detail = detail

    @property
    def message(self) -> str:
        """One line for people."""
        return str(self.args[0])


class ConfigError(WorkerError):
    """The configuration cannot be used."""

    code = "config"

    def __init__(self, problems: "tuple[Problem, ...] | str") -> None:
        """``problems`` names every fault at once; a bare string is one fault of the whole file."""
        self.problems = problems if isinstance(problems, tuple) else (Problem("", problems),)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InUse(ConfigError):
    """Another process uses what the configuration names."""

    code = "in_use"


class Problem(tuple[str, str]):
    """One fault of a configuration: where it is, and what to do about it."""

    __slots__ = ()

    def __new__(cls, path: str, reason: str) -> "Problem":
        """``path`` is dotted, from the file's top; empty for the whole file."""
        return super().__new__(cls, (path, reason))

    def __str__(self) -> str:
        """One line."""
        return f"{self[0]}: {self[1]}" if self[0] else self[1]


class MalformedMessage(WorkerError):
    """The bytes are not a message that can be trusted or read."""

    code = "malformed"


class CommandRejected(WorkerError):
    """The command is genuine, but this node refuses it; nothing was touched."""

    code = "rejected"


class TransientFailure(WorkerError):
    """It failed this time and may work in a moment."""

    code = "unavailable"

    def __init__(
        self, message: str = "", /, *, code: str | None = None, detail: str = "", retry_after_s: float = 0.0
    ) -> None:
        """``retry_after_s`` is the least wait, in seconds, that the other side requires."""
        super().__init__(message, code=code, detail=detail)
        self.retry_after_s = retry_after_s


class PermanentFailure(WorkerError):
    """It failed, and trying again will not help."""

    code = "failed"


class JournalUnavailable(PermanentFailure):
    """The journal could not commit; nothing of the transaction is durable."""

    code = "journal"


class LimitExceeded(WorkerError):
    """A limit of time, size, quota or space was reached."""

    code = "limit"


class Indeterminate(WorkerError):
    """It is not known yet whether it took effect."""

    code = "indeterminate"


def disposition(error: BaseException) -> Disposition:
    """What to do about ``error``; anything but a ``WorkerError`` is a bug and fails as ``internal``."""
    match error:
        case ConfigError():
            return Disposition.STOP
        case MalformedMessage():
            return Disposition.DEAD_LETTER
        case CommandRejected():
            return Disposition.REJECT
        case TransientFailure():
            return Disposition.RETRY
        case Indeterminate():
            return Disposition.PROBE
        case _:
            return Disposition.FAIL


def reason_of(error: BaseException) -> str:
    """The stable wire code of ``error``."""
    return error.reason if isinstance(error, WorkerError) else "internal"

"""How long to wait before looking or trying again. Pure: no clock, no randomness.

Called by the node's runner, watch and feed. The waits between attempts of an action, which need jitter, are the retry
doorway's.
"""

from enum import Enum, auto
from typing import Final

from workers.domain.command import ActionCommand

MAX_CRASHES: Final = 3
"""A command that was alone inside its action at this many deaths of the worker is not run again, but concluded: what it
began is finished or taken back. After as many deaths in that, it is given up."""

ALONE: Final = 4
SHARED: Final = 1
"""What one death adds to the blame of a command that was alone at work, and of one that was not. The second is small,
because a start runs what was at work one by one; it only bounds what never gets that far."""


class Verdict(Enum):
    """What a start-up does with a command that it finds claimed."""

    GO_ON = auto()
    """Probe it, and run it again where nothing has happened."""
    CONCLUDE = auto()
    """Probe it, and finish or take back what has begun; never run it from the start."""
    GIVE_UP = auto()
    """Touch nothing: even concluding it ended the worker."""


def verdict(blame: int) -> Verdict:
    """What the deaths so far lead to."""
    if blame < MAX_CRASHES * ALONE:
        return Verdict.GO_ON
    return Verdict.CONCLUDE if blame < 2 * MAX_CRASHES * ALONE else Verdict.GIVE_UP


LONGEST_PROBE_S: Final = 60.0
_LONGEST_BACKOFF_S: Final = 5.0


def probe_delay_s(probes: int) -> float:
    """Seconds until an unknown outcome is looked into again, after ``probes`` looks: 1, 2, 4 … 60."""
    return min(LONGEST_PROBE_S, 2.0 ** min(probes, 10))


def backoff_s(failures: int) -> float:
    """Seconds until a broker or journal that failed ``failures`` times in a row is asked again: 0.1, 0.2 … 5.

    The bound is what a kill waits at most once the broker is back.
    """
    return min(_LONGEST_BACKOFF_S, 0.1 * 2.0 ** min(failures - 1, 10))


def settle_by_ns(command: ActionCommand, timeout_s: int) -> int:
    """When an outcome that is still unknown becomes an alarm: the latest run could have begun at expiry and lasted
    its whole timeout. Nanoseconds since the epoch."""
    return command.expires_at_ns + timeout_s * 1_000_000_000

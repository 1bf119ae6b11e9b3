"""How long to wait before looking or trying again. Pure: no clock, no randomness.

Called by the node's runner, watch and feed. The waits between attempts of an action, which need jitter, are the retry
doorway's.
"""

from typing import Final

from workers.domain.command import ActionCommand

MAX_CRASHES: Final = 3
"""A command found claimed at this many start-ups is given up: after three dead workers the command is the suspect."""

_LONGEST_PROBE_S: Final = 60.0
_LONGEST_BACKOFF_S: Final = 5.0


def probe_delay_s(probes: int) -> float:
    """Seconds until an unknown outcome is looked into again, after ``probes`` looks: 1, 2, 4 … 60."""
    return min(_LONGEST_PROBE_S, 2.0 ** min(probes, 10))


def backoff_s(failures: int) -> float:
    """Seconds until a broker or journal that failed ``failures`` times in a row is asked again: 0.1, 0.2 … 5.

    The bound is what a kill waits at most once the broker is back.
    """
    return min(_LONGEST_BACKOFF_S, 0.1 * 2.0 ** min(failures - 1, 10))


def settle_by_ns(command: ActionCommand, timeout_s: int) -> int:
    """When an outcome that is still unknown becomes an alarm: the latest run could have begun at expiry and lasted
    its whole timeout. Nanoseconds since the epoch."""
    return command.expires_at_ns + timeout_s * 1_000_000_000

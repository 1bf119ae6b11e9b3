"""Whether a call that a daemon left unanswered may still be carried out.

Held by every adapter of a runtime, one for each daemon. No container may be killed twice because a daemon was slow:
until it has answered for a while again, the last call may still be carried out.
"""

from threading import Lock
from typing import Final

from workers.system.ports import Clock

SETTLE_NS: Final = 5_000_000_000
"""How long a daemon must have been answering again before a call that went unanswered counts as not carried out: what
waited in its socket is received within milliseconds, together with later questions."""


class UnansweredCalls:
    """Any thread."""

    def __init__(self, clock: Clock) -> None:
        """Every call was answered so far."""
        self._clock = clock
        self._lock = Lock()
        self._unanswered = False
        self._answers_since_ns: int | None = None

    @property
    def unsettled(self) -> bool:
        """Whether a call went unanswered and may still be carried out."""
        with self._lock:
            if self._unanswered:
                return True
            if self._answers_since_ns is None:
                return False
            if self._clock.monotonic_ns() - self._answers_since_ns < SETTLE_NS:
                return True
            self._answers_since_ns = None
            return False

    def record_unanswered(self) -> None:
        """A call that the daemon may have received had no answer."""
        with self._lock:
            self._unanswered = True

    def record_answer(self) -> None:
        """The daemon has just answered."""
        with self._lock:
            if self._unanswered:
                self._unanswered = False
                self._answers_since_ns = self._clock.monotonic_ns()

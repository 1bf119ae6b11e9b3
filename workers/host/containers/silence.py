"""Whether a call that a daemon left unanswered may still be carried out.

Kept by every adapter of a runtime, one for each daemon; read by ``behind_sockets``. Nobody may be killed twice because
a daemon was slow: until it has answered for a while again, what it was told last may still be coming.
"""

from threading import Lock
from typing import Final

from workers.system.ports import Clock

SETTLE_NS: Final = 5_000_000_000
"""How long a daemon must have been answering again before a call that went unanswered counts as not carried out: what
waited in its socket is taken up within milliseconds, side by side with our questions."""


class Silence:
    """Any thread."""

    def __init__(self, clock: Clock) -> None:
        """It has always answered so far."""
        self._clock = clock
        self._lock = Lock()
        self._silent = False
        self._answers_since_ns: int | None = None

    @property
    def unsettled(self) -> bool:
        """Whether a call went unanswered and may still be carried out."""
        with self._lock:
            if self._silent:
                return True
            if self._answers_since_ns is None:
                return False
            if self._clock.monotonic_ns() - self._answers_since_ns < SETTLE_NS:
                return True
            self._answers_since_ns = None
            return False

    def unanswered(self) -> None:
        """A call that it may have taken had no answer."""
        with self._lock:
            self._silent = True

    def answered(self) -> None:
        """It has just answered."""
        with self._lock:
            if self._silent:
                self._silent = False
                self._answers_since_ns = self._clock.monotonic_ns()

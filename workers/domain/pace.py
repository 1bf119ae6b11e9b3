"""How long one run may go on: until a fixed time, or as long as it makes progress.

Made by the node for each run; asked and moved by what copies and uploads. A run that is judged by its progress has its
whole time again after every step forward, so that only standing still ends it. One thread moves it, any thread reads
it. Pure but for the clock that it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

from workers.domain.errors import LimitExceeded


@dataclass(slots=True)
class Pace:
    """Times are nanoseconds of the clock that ``now_ns`` reads."""

    now_ns: Callable[[], int]
    deadline_ns: int
    """When it is over, unless it moves before."""
    limit_ns: int = 0
    """How long it may stand still; 0 where its deadline is fixed."""
    report: Callable[[int], None] | None = None
    """Called with the bytes that are through."""

    def moved(self, done: int | None = None) -> None:
        """It has made progress; ``done`` bytes are through, where that is counted."""
        if self.limit_ns:
            self.deadline_ns = self.now_ns() + self.limit_ns
        if done is not None and self.report is not None:
            self.report(done)

    @property
    def late_ns(self) -> int:
        """How far the deadline has passed; negative before it."""
        return self.now_ns() - self.deadline_ns

    def check(self) -> None:
        """Raises ``LimitExceeded`` (``timed_out``) once the deadline has passed."""
        if self.late_ns > 0:
            stalled = f"no progress for {self.limit_ns / 1e9:g} s" if self.limit_ns else "the time for it is over"
            raise LimitExceeded(stalled, code="timed_out")

"""State in memory that the node's threads share: the least time it can be, the journal's health, running uploads.

Made by ``wiring.node``, one of each a process; a new process begins anew. No class here holds a lock: every change is
one assignment or one operation on a dictionary.
"""

from typing import Final

from workers.domain.admission import MOST_AHEAD_NS
from workers.domain.ids import ExecutionId
from workers.domain.node_state import UPLOADING, Progress
from workers.system.ports import Clock

JOURNAL_REST_S: Final = 1.0
"""How long nothing is claimed after a journal fault. Long enough that a full disk is not hammered by every queued
command, short enough that a kill is late by a second, not by a minute, once space is there again."""

MOST_UPLOADS: Final = 16
"""Uploads that are reported: several times the gathering threads, which are two. More run all the same, unreported."""


class TimeFloor:
    """The clock that deadlines are held against: the wall clock or the certain past, whichever is later.

    A wall clock can be turned back, and then a command that expired would live again. So the node also knows a moment
    that has passed for certain (the newest issue time inside a verified signature, or the journal's floor at start) and
    how long ago, by the monotonic clock, it knew it. Only the certain one is ever persisted: a wall clock that jumps to
    2099 for a minute expires commands for a minute, not for ever. Broker timestamps are unsigned and never count.
    """

    def __init__(self, clock: Clock, floor_ns: int) -> None:
        """``floor_ns`` is what the journal last held, nanoseconds since the epoch."""
        self._clock = clock
        self._known = (floor_ns, clock.monotonic_ns())

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, never before the floor."""
        return max(self._clock.now_ns(), self.floor_ns())

    def floor_ns(self) -> int:
        """A moment that has passed for certain; what the journal keeps."""
        moment_ns, known_at_ns = self._known
        return moment_ns + self._clock.monotonic_ns() - known_at_ns

    @property
    def ahead_ns(self) -> int:
        """How far the floor is ahead of the wall clock; 0 where that is within what clocks may differ. Then either the
        wall clock was turned back, or the floor was learned when it ran ahead."""
        ahead_ns = self.floor_ns() - self._clock.now_ns()
        return ahead_ns if ahead_ns > MOST_AHEAD_NS else 0

    def learn(self, issued_at_ns: int) -> None:
        """A verified signature proves that this moment has passed, unless it is further ahead of this clock than clocks
        may differ: nobody's word moves the floor there. Called by one thread only, the feed's."""
        if self.floor_ns() < issued_at_ns <= self._clock.now_ns() + MOST_AHEAD_NS:
            self._known = (issued_at_ns, self._clock.monotonic_ns())


class Health:
    """The node's health: one word in the heartbeat, and no new claims for a moment after a journal fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rest_until_ns = 0
        self._fault = ""
        self._ending = ""
        self.leftovers = 0
        """What this start found in the vault that nothing explains."""

    def journal_failed(self, reason: str) -> None:
        """A commit did not become durable: stop claiming for a while."""
        self._fault = reason
        self._rest_until_ns = self._clock.monotonic_ns() + round(JOURNAL_REST_S * 1e9)

    def journal_works(self) -> None:
        """A commit became durable."""
        self._fault = ""

    def ending(self, phase: str) -> None:
        """``draining``, then ``stopping``."""
        self._ending = phase

    @property
    def resting(self) -> bool:
        """Whether the journal failed so recently that trying it again would be hammering."""
        return bool(self._fault) and self._clock.monotonic_ns() < self._rest_until_ns

    @property
    def status(self) -> str:
        """``ok``, ``leftovers``, ``journal``, ``draining`` or ``stopping``."""
        return self._ending or ("journal" if self._fault else "leftovers" if self.leftovers else "ok")


class Uploads:
    """Implements ``ProgressBoard``: written by gathering actions, read by the heartbeat, which nothing waits for."""

    def __init__(self) -> None:
        self._progress: dict[ExecutionId, Progress] = {}

    def update(self, execution_id: ExecutionId, *, done: int, size: int, step: str = UPLOADING) -> None:
        known = self._progress.get(execution_id)
        if known is None and len(self._progress) >= MOST_UPLOADS:
            return
        if known is None or known.step != step or done > known.done:
            self._progress[execution_id] = Progress(execution_id, done, size, step)

    def finish(self, execution_id: ExecutionId) -> None:
        self._progress.pop(execution_id, None)

    def now(self) -> tuple[Progress, ...]:
        """Every copy and upload under way, the oldest first."""
        return tuple(self._progress.copy().values())

"""Whether this machine's clock can be believed: it is compared with the clocks of the nodes, by their heartbeats.

Kept by ``dispatcher``, in memory; filled by ``follow`` with every new heartbeat. Each node that was heard lately has
one vote, so that no node alone decides for a fleet: its signed time or its record's time, whichever disagrees more.
While more than half disagree with this clock in the same direction, it is suspect, and timers are held.
"""

from dataclasses import dataclass
from typing import Final

from workers.domain.admission import MOST_AHEAD_NS
from workers.domain.ids import NodeId
from workers.system.ports import Clock

LATELY_NS: Final = 120_000_000_000
"""How long a heartbeat counts: what a node that is gone said last must not hold the timers for ever."""

CATCHING_UP_NS: Final = 2_000_000_000
"""Two heartbeats further apart by their node's time than by ours come out of a backlog; this much is no backlog."""


@dataclass(frozen=True, slots=True)
class _Vote:
    signed_ns: int
    record_ns: int
    """The time of its record in the log; 0 where the log gives none."""
    read_at_ns: int
    """Monotonic."""
    live: bool
    """Read as it was written, and not out of a backlog."""


class ClockWatch:
    """Votes of the nodes about the present time."""

    def __init__(self, clock: Clock) -> None:
        """``clock`` is the one in question; its monotonic side is believed."""
        self._clock = clock
        self._votes: dict[NodeId, _Vote] = {}

    def note(self, node_id: NodeId, signed_ns: int, record_ns: int) -> None:
        """A heartbeat that is newer than all of its node before."""
        now_ns, before = self._clock.monotonic_ns(), self._votes.get(node_id)
        passed_ns = now_ns - before.read_at_ns if before is not None else 0
        live = before is not None and 0 < signed_ns - before.signed_ns <= 2 * passed_ns + CATCHING_UP_NS
        self._votes[node_id] = _Vote(signed_ns, record_ns, now_ns, live)

    @property
    def suspect(self) -> bool:
        """Whether most nodes disagree with this clock."""
        return self._offset_ns(self._recent()) != 0

    def now_ns(self) -> int:
        """The present time: this clock's, or that of most nodes where their heartbeats arrive as they are written."""
        return self._clock.now_ns() + self._offset_ns([vote for vote in self._recent() if vote.live])

    def certain_ns(self) -> int:
        """A moment that has passed, whichever side is right: the earlier of this clock and of most nodes' time. A node
        keeps an issue time as the least that the present can be, so that must not come from the nodes' clocks alone: in
        a fleet of one node, its own wrong clock would come back to it signed."""
        return min(self.now_ns(), self._clock.now_ns())

    def latest_ns(self) -> int:
        """The latest that the present time can be; what begins now must not end too early."""
        return max(self.now_ns(), self._clock.now_ns() + self._offset_ns(self._recent()))

    def offset_ns(self) -> int:
        """How far most nodes are ahead of this clock; 0 while it is not suspect."""
        return self._offset_ns(self._recent())

    def _recent(self) -> list[_Vote]:
        since_ns = self._clock.monotonic_ns() - LATELY_NS
        return [vote for vote in self._votes.values() if vote.read_at_ns >= since_ns]

    def _offset_ns(self, votes: list[_Vote]) -> int:
        """The least by which more than half disagree in one direction; 0 where they don't."""
        if not votes:
            return 0
        offsets = sorted(map(self._disagreement_ns, votes))
        low, high = offsets[(len(offsets) - 1) // 2], offsets[len(offsets) // 2]
        if low > MOST_AHEAD_NS:
            return low
        return high if high < -MOST_AHEAD_NS else 0

    def _disagreement_ns(self, vote: _Vote) -> int:
        passed_ns, now_ns = self._clock.monotonic_ns() - vote.read_at_ns, self._clock.now_ns()
        times = [vote.signed_ns, vote.record_ns] if vote.record_ns > 0 else [vote.signed_ns]
        return max((time_ns + passed_ns - now_ns for time_ns in times), key=abs)

"""Which missing record numbers are worth an alarm: those that stay missing.

Called by ``projector``. Results and heartbeats of one sender share a count and travel on two topics, so a hole that
closes within the grace is the other topic's delay. Kept in memory: a restart waits once more and may tell a hole again.
"""

from collections.abc import Mapping
from typing import Final

from workers.domain.history.sequence import Ranges

GRACE_NS: Final = 60_000_000_000
"""A minute: six heartbeats at their usual pace."""

Hole = tuple[int, int]


class HoleWatch:
    """Remembers since when each hole is there, and whether it was told."""

    def __init__(self) -> None:
        """Of nothing yet."""
        self._holes: dict[str, dict[Hole, int | None]] = {}
        """Of each sender, since when (monotonic) each hole is there; None once it was told."""

    def look(self, seen: Mapping[str, Ranges], now_ns: int) -> list[tuple[str, Hole]]:
        """Holes that have now been there for the grace and were not told before. ``now_ns`` is monotonic."""
        due: list[tuple[str, Hole]] = []
        for sender, ranges in seen.items():
            known = self._holes.pop(sender, {})
            holes: dict[Hole, int | None] = {hole: known.get(hole, now_ns) for hole in ranges.holes}
            for hole, since_ns in holes.items():
                if since_ns is not None and now_ns - since_ns >= GRACE_NS:
                    due.append((sender, hole))
                    holes[hole] = None
            if holes:
                self._holes[sender] = holes
        return due

"""A rebuild of history as values: how far back the log reaches, what was carried over, and the result.

Pure values. Made and read by the projector's rebuild, its port and the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.domain.log.record import LogPosition

FOREVER_NS = 1 << 63
"""Later than any time: nothing has to be in the log."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the log reaches. What the old store has from before may be in no log any more, and is carried over.

    Times are nanoseconds since the epoch; 0 means that the log is whole, so that everything must be in it.
    """

    steps_ns: int = 0
    audit_ns: int = 0
    events_ns: int = 0
    starts: Mapping[LogPosition, int] = field(default_factory=dict)
    """The first offset that is left of each partition that was read."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows of each kind."""

    steps: int = 0
    audit: int = 0
    events: int = 0
    nodes: int = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any((self.steps, self.audit, self.events, self.nodes))

    def __str__(self) -> str:
        """``3 steps, 1 audit records``."""
        counts = {"steps": self.steps, "audit records": self.audit, "events": self.events, "nodes": self.nodes}
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing"


@dataclass(frozen=True, slots=True)
class Carried:
    """What the new store lacked after the log was folded into it."""

    carried: Tally = Tally()
    """Older than the log, and carried over."""
    left: Tally = Tally()
    """Recent enough to be in the log, but missing or not verified there: not carried over."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild."""

    records: int
    """Folded out of the log."""
    behind: Mapping[str, int]
    """``topic/partition`` to the records at its end that history had folded and the log did not contain."""
    carried: Carried
    digest: str
    live_digest: str
    replaced: bool = False
    """Whether the new store is the live one now."""
    kept: str = ""
    """Where the old store was kept, when it differed and was replaced anyway."""

    @property
    def equal(self) -> bool:
        """Whether the new store held exactly what the old one did, at the moment they were compared."""
        return self.digest == self.live_digest

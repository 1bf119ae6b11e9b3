"""How long history keeps its rows: the moments before which each kind may be forgotten.

Pure. Called by the projector (``Retention.cutoffs``) and by ``store.history``, which decides by these moments and by
what it holds. Whatever is still open keeps itself, its undo, its audit, its event and its node.
"""

from dataclasses import dataclass, fields
from typing import Final

DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Rows older than these moments may go; nanoseconds since the epoch, 0 keeps everything."""

    events: int = 0
    """By the time of the event."""
    executions: int = 0
    """By the time of the newest step."""
    audit: int = 0
    """By the time of the record; also for records that were put aside, and gaps."""
    nodes: int = 0
    """By the time of the heartbeat."""

    def with_later(self, other: "Cutoffs") -> "Cutoffs":
        """The later of each: what was forgotten stays forgotten."""
        return Cutoffs(*(max(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days each kind of row is kept; None is for ever."""

    events: float | None = None
    executions: float | None = None
    audit: float | None = None
    nodes: float | None = None

    def cutoffs(self, now_ns: int) -> Cutoffs:
        """What has come of age at ``now_ns``."""
        return Cutoffs(*(_before(now_ns, getattr(self, each.name)) for each in fields(Cutoffs)))


def _before(now_ns: int, days: float | None) -> int:
    return 0 if days is None else max(0, now_ns - round(days * DAY_NS))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows of each kind went."""

    events: int = 0
    executions: int = 0
    audit: int = 0
    nodes: int = 0

    def __add__(self, other: "Forgotten") -> "Forgotten":
        """Together."""
        return Forgotten(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def total(self) -> int:
        """All kinds."""
        return sum(getattr(self, each.name) for each in fields(self))

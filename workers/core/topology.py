"""How a zone's command topic is cut: the versioned record on ``fleet.topology``.

Written by the operator's command line, read by dispatcher and nodes. Pure values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topology:
    """One generation of one zone's command topic; growth makes a new one that is read beside the old."""

    zone: str
    generation: int
    """From 1."""
    partitions: int
    topic: str
    at_ns: int
    """Since when, in nanoseconds since the epoch."""

"""How a zone's command topic is cut: the versioned record on ``fleet.topology``, and which record may follow which.

Written by the operator's command line; read by dispatcher and nodes, which both call ``objection`` before they follow.
Pure. Generation 1 comes from settings and catalogue; each later one is a record that an operator signed.
"""

from dataclasses import dataclass
from typing import Final

from workers.domain.ids import NodeId
from workers.domain.log.routing import command_topic, partition_for
from workers.domain.trust.keyset import KeyRole, Signatory

MAX_PARTITIONS: Final = 10_000
"""Of one topic: far beyond the 256 of the largest zone, and few enough that a typing error hurts no cluster."""

READ_ON_NS: Final = 25 * 3_600_000_000_000
"""How long a node reads a generation after it learned of the next: the longest a command can live, which is a day, and
an hour for a dispatcher that learned of the next one later."""


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

    @property
    def key(self) -> bytes:
        """Of its record: one for each generation, so that compaction keeps them all and a node that was off for long
        can follow them one by one."""
        return f"{self.zone}/{self.generation}".encode()

    def place_of(self, node_id: NodeId) -> tuple[str, int]:
        """Topic and partition that carry a node's commands."""
        return self.topic, partition_for(node_id, self.partitions)

    def grown(self, partitions: int, *, at_ns: int) -> "Topology":
        """The generation after this one."""
        after = self.generation + 1
        return Topology(self.zone, after, partitions, command_topic(self.zone, after), at_ns)


def first(zone: str, partitions: int) -> Topology:
    """Generation 1, by the settings or the cluster itself."""
    return Topology(zone, 1, partitions, command_topic(zone), 0)


def objection(record: Topology, signatory: Signatory, newest: Topology) -> str:
    """Why a verified record does not follow ``newest``, as a stable code; empty when it does.

    That a zone never shrinks is ensured by the operator's command: only it knows how many partitions the topic of
    generation 1 really has.
    """
    if signatory.role is not KeyRole.OPERATOR:
        return "not_an_operator"
    if record.zone != newest.zone:
        return "wrong_zone"
    if record.topic != command_topic(record.zone, record.generation):
        return "wrong_topic"
    if not 1 <= record.partitions <= MAX_PARTITIONS:
        return "bad_partitions"
    if record.generation <= newest.generation:
        return "known_generation"
    return "" if record.generation == newest.generation + 1 else "skipped_generation"

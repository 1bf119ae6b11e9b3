"""Where a zone's commands go: the newest generation of its command topic that an operator signed.

Called by ``dispatcher`` for every record of ``fleet.topology``, by ``stamp`` for every command, and by ``loop``,
which must know every topic that a command may lie in. What was followed is in the ledger, so that it is known
whatever becomes of the record. A command goes to one generation and stays there: only new ones follow a growth."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from workers.dispatcher.services import Turn
from workers.domain.errors import MalformedMessage
from workers.domain.log.record import Record
from workers.domain.log.routing import command_topic
from workers.domain.log.topology import Topology, first, objection
from workers.domain.trust.envelope import PayloadType


def newest(turn: Turn, zone: str) -> Topology | None:
    """Where a zone's commands go now; None for a zone that is not served here."""
    partitions = turn.services.zones.get(zone)
    if partitions is None:
        return None
    return turn.rows.topology(zone) or first(zone, partitions)


def take(turn: Turn, record: Record) -> None:
    """One record of ``fleet.topology``. Zones that are not served are followed too: they may be one day.

    Raises:
        MalformedMessage: it does not verify, no operator signed it, or it does not follow what is known.
    """
    opened = turn.services.verifier.verify(record.value or b"", PayloadType.TOPOLOGY, Topology)
    told = opened.record
    known = turn.rows.topology(told.zone) or first(told.zone, turn.services.zones.get(told.zone, 1))
    if told == replace(known, at_ns=told.at_ns):
        return  # written twice, or read again from a log that was made anew
    fault = objection(told, opened.signatory, known)
    if fault:
        raise MalformedMessage(
            f"generation {told.generation} of zone {told.zone!r} does not follow {known.generation}", code=fault
        )
    turn.rows.put_topology(told)
    said: dict[str, Any] = {"zone": told.zone, "generation": told.generation, "partitions": told.partitions}
    turn.services.recorder.audit(turn.tx, "topology", at_ns=turn.now_ns, detail=said)
    turn.services.telemetry.log("topology", **said)


def command_topics(turn: Turn) -> Iterator[tuple[str, bool]]:
    """Every topic that may hold a command of ours, and whether new ones go there."""
    for zone, partitions in turn.services.zones.items():
        route = turn.rows.topology(zone) or first(zone, partitions)
        for generation in range(route.generation, 0, -1):
            yield command_topic(zone, generation), generation == route.generation

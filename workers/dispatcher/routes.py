"""Which topic a zone's commands go to: the newest generation of its command topic that an operator signed.

Called by ``dispatcher`` for every record of ``fleet.topology``, by ``signing`` for every command, and by ``loop``,
which must know every topic that may hold a command. What was followed is in the ledger, so that it stays known when
the record is gone. A command goes to one generation and stays there: only new ones follow a growth.
"""

from collections.abc import Iterator
from dataclasses import replace

from workers.dispatcher.transaction import Transaction
from workers.domain.errors import MalformedMessage
from workers.domain.log.record import Record
from workers.domain.log.routing import command_topic
from workers.domain.log.topology import Topology, first, objection
from workers.domain.outcome import Values
from workers.domain.trust.envelope import PayloadType


def newest(tx: Transaction, zone: str) -> Topology | None:
    """Where a zone's commands go now; None for a zone that is not served here."""
    partitions = tx.services.zones.get(zone)
    if partitions is None:
        return None
    return tx.rows.topology(zone) or first(zone, partitions)


def take(tx: Transaction, record: Record) -> None:
    """One record of ``fleet.topology``. Zones that are not served are followed too: they may be one day.

    Raises:
        MalformedMessage: it does not verify, no operator signed it, or it does not follow what is known.
    """
    opened = tx.services.verifier.verify(record.value or b"", PayloadType.TOPOLOGY, Topology)
    topology = opened.record
    known = tx.rows.topology(topology.zone) or first(topology.zone, tx.services.zones.get(topology.zone, 1))
    if topology == replace(known, at_ns=topology.at_ns):
        return  # written twice, or read again from a log that was made anew
    fault = objection(topology, opened.signatory, known)
    if fault:
        message = f"generation {topology.generation} of zone {topology.zone!r} does not follow {known.generation}"
        raise MalformedMessage(message, code=fault)
    tx.rows.put_topology(topology)
    detail: Values = {
        "zone": topology.zone,
        "generation": topology.generation,
        "partitions": topology.partitions,
    }
    tx.services.recorder.audit(tx.ledger, "topology", at_ns=tx.now_ns, detail=detail)
    tx.services.telemetry.log("topology", level="info", **detail)


def command_topics(tx: Transaction) -> Iterator[tuple[str, bool]]:
    """Every topic that may hold a command from here, and whether new ones go there."""
    for zone, partitions in tx.services.zones.items():
        topology = tx.rows.topology(zone) or first(zone, partitions)
        for generation in range(topology.generation, 0, -1):
            yield command_topic(zone, generation), generation == topology.generation

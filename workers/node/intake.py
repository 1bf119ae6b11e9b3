"""Intake: from bytes off the bus to durable rows, and nothing further.

Called by the executor with what the feed read; calls ``reading`` for each delivery, then the register. One commit holds
rows and next offset together. The offset passes everything, a poison pill too. Must never run an action; where an idle
node has bound a command already, RECEIVED and CLAIMED are one commit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from workers.actions.base import Lane
from workers.domain.command import ActionCommand
from workers.domain.log.record import Delivery, Gap
from workers.domain.outcome import Outcome, Report, code
from workers.node.attempts import fresh_claim
from workers.node.failures import Unreadable
from workers.node.gate import Gate
from workers.node.lanes import Lanes, Ticket
from workers.node.reading import Accepted, NotForUs, Reader, Reading
from workers.node.remembering import Remembering
from workers.node.services import Services
from workers.node.transitions import Transitions

GROUP: Final = 128
"""Deliveries to a commit. One fsync is 0.3 ms and a verification 0.14 ms, so at this size the fsync costs a command
next to nothing, and the journal is never held longer than some 20 ms against a kill that wants to be claimed."""


class Intake:
    """Verifies, judges and binds outside the transaction, so that the journal is held for writing only."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions, lanes: Lanes) -> None:
        """``lanes`` is asked how long the queues are, never changed."""
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._lanes = lanes
        self._reader = Reader(services, gate, lanes)

    def step(self, deliveries: Sequence[Delivery]) -> Iterator[Sequence[Ticket]]:
        """Take everything in, in groups; after each commit, the tickets of what may now run.

        Raises:
            JournalAway: the group at hand is not durable, and none after it was looked at.
            PermanentFailure: ``keyset_expired``: whom to trust is not known, so nothing is taken and nothing put aside.
        """
        for start in range(0, len(deliveries), GROUP):
            group, behind = deliveries[start : start + GROUP], deliveries[start + GROUP :]
            read = [(delivery, self._reader.read(delivery, alone=len(deliveries) == 1)) for delivery in group]
            if any(isinstance(reading, Unreadable) for _, reading in read):
                read += [(delivery, self._reader.read(delivery, alone=False)) for delivery in behind]
                yield from self._past_poison(read)
                return
            yield self._commit(read)

    def _past_poison(self, read: Sequence[tuple[Delivery, Reading]]) -> Iterator[Sequence[Ticket]]:
        """A kill must not wait until a flood of poison in front of it is written down. So what is genuine becomes
        durable first, while the offset stays; then come the dead letters, and the offset passes all. A crash between
        the two reads everything again, and finds the genuine ones known."""
        genuine = [(delivery, reading) for delivery, reading in read if isinstance(reading, Accepted)]
        for start in range(0, len(genuine), GROUP):
            yield self._commit(genuine[start : start + GROUP], advance=False)
        rest = [(delivery, NotForUs() if isinstance(reading, Accepted) else reading) for delivery, reading in read]
        for start in range(0, len(rest), GROUP):
            yield self._commit(rest[start : start + GROUP])

    def _commit(self, read: Sequence[tuple[Delivery, Reading]], *, advance: bool = True) -> Sequence[Ticket]:
        bound = any(isinstance(reading, Accepted) and reading.bound for _, reading in read)
        tickets: list[Ticket] = []
        coming: Counter[Lane] = Counter()
        with self._transitions.commit(*(("intake", "claim") if bound else ("intake",))) as tx:
            for delivery, reading in read:
                ticket = self._take(tx, delivery, reading, coming)
                if ticket is not None:
                    coming[ticket.lane] += 1
                    tickets.append(ticket)
                if advance:
                    tx.advance(delivery.position, _behind(delivery))
        return tickets

    def _take(self, tx: Remembering, delivery: Delivery, reading: Reading, coming: Counter[Lane]) -> Ticket | None:
        if isinstance(delivery, Gap):
            self._gap(tx, delivery)
            return None
        match reading:
            case NotForUs():
                return None
            case Unreadable(reason=reason, message=message):
                now_ns = self._services.time.now_ns()
                self._services.recorder.dead_letter(tx, delivery, reason=reason, message=message, at_ns=now_ns)
                self._services.telemetry.count("node.dead_letters", labels={"reason": reason})
                return None
            case Accepted():
                return self._receive(tx, reading, coming)

    def _receive(self, tx: Remembering, ours: Accepted, coming: Counter[Lane]) -> Ticket | None:
        command, entry, ticket = ours.command, ours.entry, ours.ticket
        known = tx.entry(entry.execution_id)
        if known is not None:
            self._services.telemetry.count("node.duplicates")
            self._transitions.repeat(tx, known)
            return None
        self._services.telemetry.count("node.commands")
        refusal = ours.refusal or self._crowded(command, ticket, coming[ticket.lane])
        if refusal is not None:
            self._transitions.end(tx, entry, command, refusal)
            return None
        if ours.bound is not None:
            configuration = self._gate.configuration(command)
            self._transitions.claim(tx, fresh_claim(entry, ours.bound), command, configuration)
        else:
            tx.put(entry)
        return ticket

    def _crowded(self, command: ActionCommand, ticket: Ticket, coming: int) -> Report | None:
        if not self._lanes.full(ticket.lane, ticket.rank, coming=coming):
            return None
        message = f"{self._services.settings.queue_length} commands wait in the {ticket.lane} lane already"
        return Report(Outcome.REJECTED, code(command.action, Outcome.REJECTED, "queue_full"), message)

    def _gap(self, tx: Remembering, gap: Gap) -> None:
        self._services.recorder.audit(tx, "gap", at_ns=self._services.time.now_ns(), detail=gap.detail)
        self._services.telemetry.log("gap", level="error", **gap.detail)


def _behind(delivery: Delivery) -> int:
    """The offset that reading goes on from."""
    return delivery.resumed_at if isinstance(delivery, Gap) else delivery.offset + 1

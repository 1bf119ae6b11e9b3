"""Intake: from bytes off the bus to durable rows, and nothing further.

Called by the executor with what the feed read; calls opener, gate, binder and register. In this order, always: filter
by key, verify the signature over the exact bytes, decode, ask whether the command is ours, and only then one commit
that holds rows and next offset together. The offset passes everything, a poison pill too. Must never run an action; the
most it does is to bind one that asks the kernel alone, when the lane is idle, so that RECEIVED and CLAIMED are one
commit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from workers.action import Lane
from workers.core.admission import Clear, Refused, misaddressed
from workers.core.command import ActionCommand
from workers.core.envelope import PayloadType
from workers.core.errors import PermanentFailure
from workers.core.journal_entry import EntryState, JournalEntry
from workers.core.outcome import Outcome, Report, Scalar, code
from workers.core.record import Delivery, Gap, Headers, Record
from workers.node.attempts import fresh_claim
from workers.node.binding import Binder, Bound
from workers.node.equipment import Equipment
from workers.node.gate import Gate
from workers.node.lanes import Lanes, Ticket
from workers.node.mishaps import Mishaps, Unreadable
from workers.node.register import Register
from workers.node.remembering import Remembering
from workers.ports import Opened

GROUP: Final = 128
"""Deliveries to a commit. One fsync is 0.3 ms and a verification 0.14 ms, so at this size the fsync costs a command
next to nothing, and the journal is never held longer than some 20 ms against a kill that wants to be claimed."""

KEYSET_EXPIRED: Final = "keyset_expired"
"""The one refusal that says nothing about the bytes: they wait on the bus until the keyset was renewed."""


@dataclass(frozen=True, slots=True)
class _Others:
    """A co-tenant's record: only the offset moves."""


@dataclass(frozen=True, slots=True)
class _Ours:
    """A verified command for us: to be refused, or bound already, or simply to be queued."""

    command: ActionCommand
    entry: JournalEntry
    ticket: Ticket
    refusal: Report | None = None
    bound: Bound | None = None


_Reading: TypeAlias = _Others | Unreadable | _Ours


class Intake:
    """Verifies, judges and binds outside the transaction, so that the journal is held for writing only."""

    def __init__(self, equipment: Equipment, gate: Gate, register: Register, lanes: Lanes) -> None:
        """``lanes`` is asked how long the queues are, never changed."""
        self._at = equipment
        self._gate = gate
        self._register = register
        self._lanes = lanes
        self._binder = Binder(equipment, gate)
        self._mishaps = Mishaps(equipment.telemetry)
        self._key = equipment.identity.node_id.encode()

    def step(self, deliveries: Sequence[Delivery]) -> Iterator[Sequence[Ticket]]:
        """Take everything in, in groups; after each commit, the tickets of what may now run.

        Raises:
            JournalAway: the group at hand is not durable, and none after it was looked at.
            PermanentFailure: ``keyset_expired``: whom to trust is not known, so nothing is taken and nothing put aside.
        """
        for start in range(0, len(deliveries), GROUP):
            group, behind = deliveries[start : start + GROUP], deliveries[start + GROUP :]
            read = [(delivery, self._read(delivery, alone=len(deliveries) == 1)) for delivery in group]
            if any(isinstance(reading, Unreadable) for _, reading in read):
                read += [(delivery, self._read(delivery, alone=False)) for delivery in behind]
                yield from self._past_poison(read)
                return
            yield self._commit(read)

    def _past_poison(self, read: Sequence[tuple[Delivery, _Reading]]) -> Iterator[Sequence[Ticket]]:
        """A kill must not wait until a flood of poison in front of it is written down. So what is genuine becomes
        durable first, while the offset stays; then come the dead letters, and the offset passes all. A crash between
        the two reads everything again, and finds the genuine ones known."""
        genuine = [(delivery, reading) for delivery, reading in read if isinstance(reading, _Ours)]
        for start in range(0, len(genuine), GROUP):
            yield self._commit(genuine[start : start + GROUP], advance=False)
        rest = [(delivery, _Others() if isinstance(reading, _Ours) else reading) for delivery, reading in read]
        for start in range(0, len(rest), GROUP):
            yield self._commit(rest[start : start + GROUP])

    def _commit(self, read: Sequence[tuple[Delivery, _Reading]], *, advance: bool = True) -> Sequence[Ticket]:
        bound = any(isinstance(reading, _Ours) and reading.bound for _, reading in read)
        tickets: list[Ticket] = []
        coming: Counter[Lane] = Counter()
        with self._register.commit(*(("intake", "claim") if bound else ("intake",))) as tx:
            for delivery, reading in read:
                ticket = self._take(tx, delivery, reading, coming)
                if ticket is not None:
                    coming[ticket.lane] += 1
                    tickets.append(ticket)
                if advance:
                    tx.advance(delivery.position, _behind(delivery))
        return tickets

    # --- before the transaction ------------------------------------------------------------------------------------

    def _read(self, delivery: Delivery, *, alone: bool) -> _Reading:
        if isinstance(delivery, Gap) or delivery.key != self._key:
            return _Others()
        with self._at.telemetry.span("process response.commands", parent=delivery.headers) as span:
            found = self._mishaps.readable(lambda: self._ours(delivery, span.headers() or delivery.headers))
            if isinstance(found, Unreadable) and found.reason == KEYSET_EXPIRED:
                raise PermanentFailure(found.message, code=KEYSET_EXPIRED)
            if isinstance(found, _Ours) and alone:
                return self._bound_early(found)
            return found

    def _ours(self, record: Record, trace: Headers) -> _Ours | Unreadable:
        if record.value is None:
            return Unreadable("null", "a record without a value")
        opened = self._at.opener.open(record.value, PayloadType.COMMAND, ActionCommand)
        command, now_ns = opened.record, self._at.time.now_ns()
        stray = misaddressed(command, opened.signatory, self._at.identity.addressee, now_ns=now_ns)
        if stray is not None:
            return Unreadable(stray.reason, stray.message)
        self._at.time.learn(command.issued_at_ns)
        entry = _received(opened, now_ns, trace)
        judged = self._mishaps.guard(command, lambda: self._judged(command))
        if isinstance(judged, Report):
            return _Ours(command, entry, Ticket(command.command_id, Lane.CONTAINMENT, command.command_id), judged)
        return _Ours(command, entry, judged)

    def _judged(self, command: ActionCommand) -> Ticket | Report:
        """What can be refused at once takes no place in a queue."""
        verdict = self._gate.judge(command)
        if isinstance(verdict, Refused):
            return Report(verdict.outcome, code(command.action, verdict.outcome, verdict.reason), verdict.message)
        return self._gate.ticket(command)

    def _bound_early(self, found: _Ours) -> _Ours:
        command = found.command
        if found.refusal or command.dry_run or command.undo_of or not self._gate.action(command).local:
            return found
        if not self._lanes.idle(found.ticket.lane) or not isinstance(self._gate.judge(command), Clear):
            return found
        if self._at.journal.entry(command.command_id) is not None:
            return found
        bound = self._mishaps.guard(command, lambda: self._binder.bind(command))
        if isinstance(bound, Bound):
            return replace(found, bound=bound, ticket=replace(found.ticket, fresh=True))
        return replace(found, refusal=bound) if bound.outcome is Outcome.REJECTED else found

    # --- inside the transaction ------------------------------------------------------------------------------------

    def _take(self, tx: Remembering, delivery: Delivery, reading: _Reading, coming: Counter[Lane]) -> Ticket | None:
        if isinstance(delivery, Gap):
            self._gap(tx, delivery)
            return None
        match reading:
            case _Others():
                return None
            case Unreadable(reason=reason, message=message):
                now_ns = self._at.time.now_ns()
                self._at.scribe.dead_letter(tx, delivery, reason=reason, message=message, at_ns=now_ns)
                self._at.telemetry.count("node.dead_letters", labels={"reason": reason})
                return None
            case _Ours():
                return self._receive(tx, reading, coming)

    def _receive(self, tx: Remembering, ours: _Ours, coming: Counter[Lane]) -> Ticket | None:
        command, entry, ticket = ours.command, ours.entry, ours.ticket
        known = tx.entry(entry.execution_id)
        if known is not None:
            self._at.telemetry.count("node.duplicates")
            self._register.repeat(tx, known)
            return None
        self._at.telemetry.count("node.commands")
        refusal = ours.refusal or self._crowded(command, ticket, coming[ticket.lane])
        if refusal is not None:
            self._register.end(tx, entry, command, refusal)
            return None
        if ours.bound is not None:
            configuration = self._gate.configuration(command)
            self._register.claim(tx, fresh_claim(entry, ours.bound), command, configuration)
        else:
            tx.put(entry)
        return ticket

    def _crowded(self, command: ActionCommand, ticket: Ticket, coming: int) -> Report | None:
        if not self._lanes.full(ticket.lane, ticket.rank, coming=coming):
            return None
        message = f"{self._at.settings.queue_length} commands wait in the {ticket.lane} lane already"
        return Report(Outcome.REJECTED, code(command.action, Outcome.REJECTED, "queue_full"), message)

    def _gap(self, tx: Remembering, gap: Gap) -> None:
        detail: dict[str, Scalar] = {
            "topic": gap.position.topic,
            "partition": gap.position.partition,
            "expected": gap.expected,
            "resumed_at": gap.resumed_at,
            "reason": gap.reason,
        }
        self._at.scribe.audit(tx, "gap", at_ns=self._at.time.now_ns(), detail=detail)
        self._at.telemetry.log("gap", level="error", **dict(detail))


def _behind(delivery: Delivery) -> int:
    """The offset that reading goes on from."""
    return delivery.resumed_at if isinstance(delivery, Gap) else delivery.offset + 1


def _received(opened: Opened[ActionCommand], now_ns: int, trace: Headers) -> JournalEntry:
    return JournalEntry(
        execution_id=opened.record.command_id,
        state=EntryState.RECEIVED,
        command=opened.payload,
        command_sha256=opened.sha256,
        received_at_ns=now_ns,
        expires_at_ns=opened.record.expires_at_ns,
        trace=trace,
    )

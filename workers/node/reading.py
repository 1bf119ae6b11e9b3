"""Reading one delivery: whose it is, whether it is genuine, whether it may run. Nothing durable happens here.

Called by intake before its transaction, so that no signature is checked while the journal is held; calls opener, gate
and binder. The order is fixed: key, signature over the exact bytes, decoding, address, gate. The most it does is to
bind, and that only where nothing else is going on and the kernel alone is asked.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from workers.action import Lane
from workers.core.admission import Clear, Refused, misaddressed
from workers.core.command import ActionCommand
from workers.core.envelope import PayloadType
from workers.core.errors import PermanentFailure
from workers.core.journal_entry import EntryState, JournalEntry
from workers.core.outcome import Outcome, Report, code
from workers.core.record import Delivery, Gap, Headers, Record
from workers.node.binding import Binder, Bound
from workers.node.equipment import Equipment
from workers.node.gate import Gate
from workers.node.lanes import Lanes, Ticket
from workers.node.mishaps import Mishaps, Unreadable
from workers.ports import Opened

KEYSET_EXPIRED: Final = "keyset_expired"
"""The one refusal that says nothing about the bytes: they wait on the bus until the keyset was renewed."""


@dataclass(frozen=True, slots=True)
class Others:
    """A co-tenant's record: only the offset moves."""


@dataclass(frozen=True, slots=True)
class Ours:
    """A verified command for us: to be refused, or bound already, or simply to be queued."""

    command: ActionCommand
    entry: JournalEntry
    ticket: Ticket
    refusal: Report | None = None
    bound: Bound | None = None


Reading: TypeAlias = Others | Unreadable | Ours


class Reader:
    """Judges bytes."""

    def __init__(self, equipment: Equipment, gate: Gate, lanes: Lanes) -> None:
        """``lanes`` is asked whether anything is going on, never changed."""
        self._at = equipment
        self._gate = gate
        self._lanes = lanes
        self._binder = Binder(equipment, gate)
        self._mishaps = Mishaps(equipment.telemetry)
        self._key = equipment.identity.node_id.encode()

    def read(self, delivery: Delivery, *, alone: bool) -> Reading:
        """What a delivery is; ``alone`` when nothing else came with it.

        Raises:
            PermanentFailure: ``keyset_expired``: whom to trust is not known.
        """
        if isinstance(delivery, Gap) or delivery.key != self._key:
            return Others()
        with self._at.telemetry.span("process response.commands", parent=delivery.headers) as span:
            found = self._mishaps.readable(lambda: self._ours(delivery, span.headers() or delivery.headers))
            if isinstance(found, Unreadable) and found.reason == KEYSET_EXPIRED:
                raise PermanentFailure(found.message, code=KEYSET_EXPIRED)
            if isinstance(found, Ours) and alone:
                return self._bound_early(found)
            return found

    def _ours(self, record: Record, trace: Headers) -> Ours | Unreadable:
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
            return Ours(command, entry, Ticket(command.command_id, Lane.CONTAINMENT, command.command_id), judged)
        return Ours(command, entry, judged)

    def _judged(self, command: ActionCommand) -> Ticket | Report:
        """What can be refused at once takes no place in a queue."""
        verdict = self._gate.judge(command)
        if isinstance(verdict, Refused):
            return Report(verdict.outcome, code(command.action, verdict.outcome, verdict.reason), verdict.message)
        return self._gate.ticket(command)

    def _bound_early(self, found: Ours) -> Ours:
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

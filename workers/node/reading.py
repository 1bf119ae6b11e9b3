"""Reading one delivery: whose it is, whether it is genuine, whether it may run. Nothing durable happens here.

Called by intake before its transaction, so that no signature is checked while the journal is held; calls opener, gate
and binder. The order is fixed: key, signature over the exact bytes, decoding, address, gate. The most it does is to
bind, and that only where nothing else is going on and the kernel alone is asked.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from workers.actions.base import Lane
from workers.domain.admission import Refused, misaddressed
from workers.domain.command import ActionCommand
from workers.domain.errors import PermanentFailure
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import Delivery, Gap, Headers, Record
from workers.domain.outcome import Outcome, Report, code
from workers.domain.trust.envelope import PayloadType
from workers.node.binding import Binder, Bound
from workers.node.failures import Failures, Unreadable
from workers.node.gate import Gate
from workers.node.lanes import Lanes, Ticket
from workers.node.services import Services
from workers.wire.ports import VerifiedRecord

KEYSET_EXPIRED: Final = "keyset_expired"
"""The one refusal that says nothing about the bytes: they wait on the bus until the keyset was renewed."""


@dataclass(frozen=True, slots=True)
class NotForUs:
    """A co-tenant's record: only the offset moves."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A verified command for us: to be refused, or bound already, or simply to be queued."""

    command: ActionCommand
    entry: JournalEntry
    ticket: Ticket
    refusal: Report | None = None
    bound: Bound | None = None


Reading: TypeAlias = NotForUs | Unreadable | Accepted


class Reader:
    """Judges bytes."""

    def __init__(self, services: Services, gate: Gate, lanes: Lanes) -> None:
        """``lanes`` is asked whether anything is going on, never changed."""
        self._services = services
        self._gate = gate
        self._lanes = lanes
        self._binder = Binder(services, gate)
        self._failures = Failures(services.telemetry)
        self._key = services.identity.node_id.encode()

    def read(self, delivery: Delivery, *, alone: bool) -> Reading:
        """What a delivery is; ``alone`` when nothing else came with it.

        Raises:
            PermanentFailure: ``keyset_expired``: whom to trust is not known.
        """
        if isinstance(delivery, Gap) or delivery.key != self._key:
            return NotForUs()
        with self._services.telemetry.span("process response.commands", parent=delivery.headers) as span:
            found = self._failures.readable(lambda: self._ours(delivery, span.headers() or delivery.headers))
            if isinstance(found, Unreadable) and found.reason == KEYSET_EXPIRED:
                raise PermanentFailure(found.message, code=KEYSET_EXPIRED)
            if isinstance(found, Accepted) and alone:
                return self._bound_early(found)
            return found

    def _ours(self, record: Record, trace: Headers) -> Accepted | Unreadable:
        if record.value is None:
            return Unreadable("null", "a record without a value")
        opened = self._services.verifier.verify(record.value, PayloadType.COMMAND, ActionCommand)
        command, now_ns = opened.record, self._services.time.now_ns()
        stray = misaddressed(command, opened.signatory, self._services.identity.addressee, now_ns=now_ns)
        if stray is not None:
            return Unreadable(stray.reason, stray.message)
        self._services.time.learn(command.issued_at_ns)
        entry = _received(opened, now_ns, trace)
        judged = self._failures.guard(command, lambda: self._judged(command))
        if isinstance(judged, Report):
            return Accepted(command, entry, Ticket(command.command_id, Lane.CONTAINMENT, command.command_id), judged)
        return Accepted(command, entry, judged)

    def _judged(self, command: ActionCommand) -> Ticket | Report:
        """What can be refused at once takes no place in a queue."""
        verdict = self._gate.judge(command)
        if isinstance(verdict, Refused):
            return Report(verdict.outcome, code(command.action, verdict.outcome, verdict.reason), verdict.message)
        return self._gate.ticket(command)

    def _bound_early(self, found: Accepted) -> Accepted:
        command = found.command
        if found.refusal or command.dry_run or command.undo_of or not self._gate.action(command).local:
            return found
        if not self._lanes.idle(found.ticket.lane) or self._gate.judge(command) is not None:
            return found
        if self._services.journal.entry(command.command_id) is not None:
            return found
        bound = self._failures.guard(command, lambda: self._binder.bind(command))
        if isinstance(bound, Bound):
            return replace(found, bound=bound, ticket=replace(found.ticket, fresh=True))
        return replace(found, refusal=bound) if bound.outcome is Outcome.REJECTED else found


def _received(opened: VerifiedRecord[ActionCommand], now_ns: int, trace: Headers) -> JournalEntry:
    return JournalEntry(
        execution_id=opened.record.command_id,
        state=EntryState.RECEIVED,
        command=opened.payload,
        command_sha256=opened.sha256,
        received_at_ns=now_ns,
        expires_at_ns=opened.record.expires_at_ns,
        trace=trace,
    )

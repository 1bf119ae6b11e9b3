"""Inspects one delivery: is it for this node, is it genuine, may it run? Writes nothing.

Called by ``intake`` before its transaction, so that no signature is checked while the journal is held; calls verifier
and gate. The order is fixed: key, signature over the exact bytes, decoding, address, gate. At most it binds the
command, and that only where the lane is idle and the kernel alone is asked.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from workers.actions.base import Lane
from workers.domain.admission import ISSUED_IN_FUTURE, Refused, misaddressed
from workers.domain.command import ActionCommand
from workers.domain.errors import PermanentFailure
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import Delivery, Gap, Headers, Record
from workers.domain.outcome import Outcome, Report, code
from workers.domain.trust.envelope import PayloadType
from workers.node.failures import Failures, Unreadable
from workers.node.gate import Bound, Gate
from workers.node.lanes import Lanes, Task
from workers.node.services import Services
from workers.wire.ports import VerifiedRecord

KEYSET_EXPIRED: Final = "keyset_expired"
"""The one refusal that is not about the bytes: they wait on the bus until the keyset is renewed."""


@dataclass(frozen=True, slots=True)
class NotForUs:
    """A record for another node of the zone: only the offset moves."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A verified command for this node: to be refused, or already bound, or to be queued."""

    command: ActionCommand
    entry: JournalEntry
    task: Task
    refusal: Report | None = None
    bound: Bound | None = None


Inspected: TypeAlias = NotForUs | Unreadable | Accepted


class Inspector:
    """Inspects what the feed read."""

    def __init__(self, services: Services, gate: Gate, lanes: Lanes) -> None:
        """``lanes`` is only asked whether it is idle."""
        self._services = services
        self._gate = gate
        self._lanes = lanes
        self._failures = Failures(services.telemetry)
        self._key = services.identity.node_id.encode()

    def inspect(self, delivery: Delivery, *, alone: bool) -> Inspected:
        """What a delivery is; ``alone`` when nothing else came with it.

        Raises:
            PermanentFailure: ``keyset_expired``: which keys to trust is not known.
        """
        if isinstance(delivery, Gap) or delivery.key != self._key:
            return NotForUs()
        with self._services.telemetry.span("process response.commands", parent=delivery.headers) as span:
            found = self._failures.readable(lambda: self._verified(delivery, span.headers() or delivery.headers))
            if isinstance(found, Unreadable) and found.reason == KEYSET_EXPIRED:
                raise PermanentFailure(found.message, code=KEYSET_EXPIRED)
            if isinstance(found, Accepted) and alone:
                return self._bound_early(found)
            return found

    def _verified(self, record: Record, trace: Headers) -> Accepted | Unreadable:
        if record.value is None:
            return Unreadable("null", "a record without a value")
        verified = self._services.verifier.verify(record.value, PayloadType.COMMAND, ActionCommand)
        command, now_ns = verified.record, self._services.time.now_ns()
        misdirected = misaddressed(command, verified.signatory, self._services.identity.addressee, now_ns=now_ns)
        if misdirected is not None:
            return Unreadable(misdirected.reason, misdirected.message)
        self._services.time.learn(command.issued_at_ns)
        entry = _received(verified, now_ns, trace)
        decided = self._failures.guard(command, lambda: self._queued_or_refused(command))
        if isinstance(decided, Report):
            return Accepted(command, entry, Task(command.command_id, Lane.CONTAINMENT, command.command_id), decided)
        return Accepted(command, entry, decided)

    def _queued_or_refused(self, command: ActionCommand) -> Task | Report:
        """What can be refused at once is never queued."""
        verdict = self._gate.judge(command)
        if isinstance(verdict, Refused):
            if verdict.reason == ISSUED_IN_FUTURE:
                self._services.telemetry.count("node.clock_alarms")
                self._services.telemetry.log(
                    "clock_suspect", level="error", execution_id=command.command_id, issued_at_ns=command.issued_at_ns
                )
            return Report(verdict.outcome, code(command.action, verdict.outcome, verdict.reason), verdict.message)
        return self._gate.task(command)

    def _bound_early(self, found: Accepted) -> Accepted:
        command = found.command
        if found.refusal or command.dry_run or command.undo_of or not self._gate.action(command).local:
            return found
        if not self._lanes.idle(found.task.lane) or self._gate.judge(command) is not None:
            return found
        if self._services.journal.entry(command.command_id) is not None:
            return found
        bound = self._failures.guard(command, lambda: self._gate.bind(command))
        if isinstance(bound, Bound):
            return replace(found, bound=bound, task=replace(found.task, fresh=True))
        return replace(found, refusal=bound) if bound.outcome is Outcome.REJECTED else found


def _received(verified: VerifiedRecord[ActionCommand], now_ns: int, trace: Headers) -> JournalEntry:
    return JournalEntry(
        execution_id=verified.record.command_id,
        state=EntryState.RECEIVED,
        command=verified.payload,
        command_sha256=verified.sha256,
        received_at_ns=now_ns,
        expires_at_ns=verified.record.expires_at_ns,
        trace=trace,
    )

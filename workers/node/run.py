"""The runner: one turn of one command, from its journal entry to its outcome or its next turn.

Called by the lane threads with a ticket. The order is this room's whole reason: the gate is asked again, admit and bind
touch nothing, the claim is durable before ``execute`` (``attempts``), and the outcome is durable before the ticket is
let go. What an earlier process claimed, or what came back unknown, is probed, and runs again only where the probe is
sure that nothing happened. Must never call ``execute`` itself.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from workers.actions.base import Begun, Done, NotDone, Pending, Probe
from workers.domain.admission import Refused
from workers.domain.command import ActionCommand
from workers.domain.errors import JournalAway
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, Report, code
from workers.domain.retry import probe_delay_s, settle_by_ns
from workers.node.attempts import Attempts
from workers.node.binding import Binder, Bound
from workers.node.deadline_watch import DeadlineWatch
from workers.node.failures import Failures
from workers.node.gate import Gate
from workers.node.health import JOURNAL_REST_S
from workers.node.lanes import Ticket
from workers.node.services import Services
from workers.node.transitions import Transitions

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a turn is about."""

    ticket: Ticket
    command: ActionCommand
    entry: JournalEntry
    trace: Headers


class Runner:
    """Holds nothing of its own but outcomes that the journal would not take yet."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions, watch: DeadlineWatch) -> None:
        """``watch`` is told what runs."""
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._watch = watch
        self._binder = Binder(services, gate)
        self._attempts = Attempts(services, gate, transitions, watch)
        self._failures = Failures(services.telemetry)
        self._unwritten: dict[ExecutionId, Report] = {}

    def step(self, ticket: Ticket) -> Ticket | None:
        """Do what this command needs next; its next turn, or None when it has ended. Blocks as long as the action."""
        if self._services.health.resting:
            return self._later(ticket, JOURNAL_REST_S)
        try:
            return self._step(ticket)
        except JournalAway:
            return self._later(ticket, JOURNAL_REST_S)

    def _step(self, ticket: Ticket) -> Ticket | None:
        entry = self._transitions.find(ticket.execution_id)
        if entry is None or entry.state in (EntryState.OBSERVED, EntryState.PUBLISHED):
            return None
        command = self._services.codec.decode(entry.command, ActionCommand)
        with self._services.telemetry.span(f"execute {command.action}", parent=entry.trace) as span:
            span.note("execution_id", entry.execution_id)
            return self._take(_Turn(ticket, command, entry, span.headers() or entry.trace))

    def _take(self, turn: _Turn) -> Ticket | None:
        unwritten = self._unwritten.pop(turn.entry.execution_id, None)
        if unwritten is not None:
            return self._end(turn, unwritten)
        if turn.entry.state is EntryState.RECEIVED:
            return self._begin(turn)
        if turn.ticket.fresh:
            return self._act(turn, self._rebound(turn), claimed=True)
        return self._settle(turn)

    def _begin(self, turn: _Turn) -> Ticket | None:
        """Nothing was claimed yet."""
        refused = self._gate.judge(turn.command)
        if refused is not None:
            return self._end(turn, _refusal(turn.command, refused))
        bound = self._failures.guard(turn.command, lambda: self._binder.bind_patiently(turn.command))
        if isinstance(bound, Bound) and turn.command.dry_run:
            return self._end(turn, self._dry_run(turn.command, bound))
        return self._act(turn, bound, claimed=False)

    def _act(self, turn: _Turn, bound: Bound | Report, *, claimed: bool, begun: bool = False) -> Ticket | None:
        if isinstance(bound, Report):
            return self._end(turn, bound)
        report = self._failures.guard(
            turn.command,
            lambda: self._attempts.run(turn.entry, bound, claimed=claimed, begun=begun, trace=turn.trace),
        )
        return self._end(turn, report)

    def _settle(self, turn: _Turn) -> Ticket | None:
        """It was claimed and its outcome is not known: look, never rerun blindly."""
        bound = self._rebound(turn)
        if isinstance(bound, Report):
            return self._end(turn, bound)
        found = self._probe(turn.command, bound)
        match found:
            case Done(report=report):
                # After a crash nobody knows who made the effect; the target may have gone by itself.
                proven = turn.entry.crashes == 0
                return self._end(turn, report if proven else replace(report, cause="unproven"))
            case Pending(report=report):
                return self._wait(turn, report)
            case Begun():
                return self._act(turn, bound, claimed=False, begun=True)
            case NotDone():
                return self._once_more(turn, bound)
            case _:
                assert_never(found)

    def _once_more(self, turn: _Turn, bound: Bound) -> Ticket | None:
        """The probe is sure that nothing happened, so running is as safe as it was the first time."""
        verdict = self._gate.judge(turn.command)
        if not isinstance(verdict, Refused):
            return self._act(turn, bound, claimed=False)
        if verdict.outcome is Outcome.EXPIRED and turn.entry.report is not None:
            message = "it ran, came back unknown, and by its expiry had no effect"
            return self._end(turn, bound.action.report(Outcome.TIMED_OUT, "no_effect", message))
        return self._end(turn, _refusal(turn.command, verdict))

    def _wait(self, turn: _Turn, report: Report) -> Ticket | None:
        """Still unknown: say so when it is news, raise the alarm when it is overdue, and come again."""
        ticket = turn.ticket
        overdue_ns = settle_by_ns(turn.command, self._gate.timeout_s(turn.command))
        if not ticket.alarmed and self._services.time.now_ns() > overdue_ns:
            self._watch.alarm(turn.command)
            ticket = replace(ticket, alarmed=True)
        known = turn.entry.report
        if known is None or known.code != report.code:
            return self._end(replace(turn, ticket=ticket), report)
        return self._look_again(ticket)

    def _end(self, turn: _Turn, report: Report) -> Ticket | None:
        try:
            with self._transitions.commit("observe") as tx:
                entry = self._transitions.open(tx, turn.entry.execution_id)
                if entry is None:
                    return None
                self._transitions.end(tx, replace(entry, trace=turn.trace), turn.command, report)
        except JournalAway:
            self._unwritten[turn.entry.execution_id] = report
            raise
        return None if report.outcome.is_final else self._look_again(turn.ticket)

    def _rebound(self, turn: _Turn) -> Bound | Report:
        bound = self._failures.guard(turn.command, lambda: self._binder.rebind(turn.command, turn.entry.claim))
        if isinstance(bound, Report):
            # It was claimed, so "nothing was touched" is more than we know: never REJECTED.
            return replace(bound, outcome=Outcome.FAILED)
        return bound

    def _probe(self, command: ActionCommand, bound: Bound) -> Probe:
        found = self._failures.guard(command, lambda: bound.action.probe(bound.job, bound.claim, self._services.host))
        if isinstance(found, Report):
            return Pending(bound.action.report(Outcome.UNKNOWN, "probe_failed", found.message))
        return found

    def _dry_run(self, command: ActionCommand, bound: Bound) -> Report:
        return self._failures.guard(
            command, lambda: bound.action.dry_run_report(bound.job, bound.claim, self._services.host)
        )

    def _look_again(self, ticket: Ticket) -> Ticket:
        return self._later(replace(ticket, probes=ticket.probes + 1), probe_delay_s(ticket.probes))

    def _later(self, ticket: Ticket, seconds: float) -> Ticket:
        return replace(ticket, fresh=False, due_ns=self._services.clock.monotonic_ns() + max(1, round(seconds * _NS)))


def _refusal(command: ActionCommand, refused: Refused) -> Report:
    return Report(refused.outcome, code(command.action, refused.outcome, refused.reason), refused.message)

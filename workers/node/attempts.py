"""Attempts: claim, act, and try again only where nothing can have happened. The only caller of ``Action.execute``.

Called by ``runner`` with a bound command; calls ``transitions``, the retry doorway and the action. The claim commit
comes before the first destructive call of every attempt, and its number is in the journal, not in memory. A second
attempt needs both: a failure that the adapter declared transient, and a probe that is sure that the effect is not in
place. Next: ``transitions``.
"""

from dataclasses import replace

from workers.actions.base import Begun, Done, NotDone, Pending, Probe
from workers.domain.errors import Indeterminate, TransientFailure
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, Report
from workers.domain.pace import Pace
from workers.node.deadline_watch import DeadlineWatch
from workers.node.gate import Bound, Gate
from workers.node.services import Services
from workers.node.transitions import Transitions


class Attempts:
    """Runs something bound to a report. Everything an action may raise comes through, for ``Failures`` to name."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions, watch: DeadlineWatch) -> None:
        """``watch`` notices a run that never returns."""
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._watch = watch

    def run(self, entry: JournalEntry, bound: Bound, *, claimed: bool, trace: Headers, begun: bool = False) -> Report:
        """Try until there is an outcome. Blocks. ``claimed``: this attempt's claim is durable already.
        ``begun``: the effect is half made, so that the command's expiry no longer counts.

        Raises:
            JournalUnavailable: the claim could not be made durable; nothing was done.
            PermanentFailure, LimitExceeded, Indeterminate, CommandRejected: from the action.
        """
        command = bound.job.command
        bound = self._paced(bound)
        job = bound.job
        first = entry.attempt if claimed else entry.attempt + 1

        def attempt(number: int) -> Report:
            if number > first:
                found = self._probe(bound)
                if isinstance(found, Done | Pending):
                    return found.report
            if not begun and self._services.time.now_ns() > command.expires_at_ns:
                return bound.action.report(Outcome.EXPIRED, "expired", "expired before this attempt; nothing is done")
            if number > first or not claimed:
                self._claim(entry, bound, number, trace)
            return self._execute(bound)

        try:
            deadline_ns = job.deadline_ns if begun else min(job.deadline_ns, command.expires_at_ns)
            return self._services.retrying.run(attempt, first=first, deadline_ns=deadline_ns)
        except TransientFailure as error:
            match self._probe(bound):
                case Done(report=report) | Pending(report=report):
                    return report
                case Begun():
                    raise Indeterminate(
                        f"half done, and not to be left so: {error.message}", code="half_done"
                    ) from error
                case NotDone():
                    raise

    def conclude(self, bound: Bound) -> Report:
        """Finish or take back what an action has begun that ended this worker again and again; never begin anew.

        Raises: as ``run``.
        """
        bound = self._paced(bound)
        with self._watch.over(bound.job):
            return bound.action.conclude(bound.job, bound.claim, self._services.host)

    def _paced(self, bound: Bound) -> Bound:
        """With a deadline from now; one that moves is held against the wall clock, by which it is moved."""
        paced = bound.action.paced
        now_ns = self._services.clock.now_ns if paced else self._services.time.now_ns
        limit_ns = self._gate.timeout_s(bound.job.command) * 1_000_000_000
        pace = Pace(now_ns, now_ns() + limit_ns, limit_ns if paced else 0)
        return replace(bound, job=replace(bound.job, deadline_ns=pace.deadline_ns, pace=pace))

    def _probe(self, bound: Bound) -> Probe:
        """After a failed attempt: another one may be made where the effect is surely not in place, or half made."""
        return bound.action.probe(bound.job, bound.claim, self._services.host)

    def _claim(self, entry: JournalEntry, bound: Bound, number: int, trace: Headers) -> None:
        command = bound.job.command
        with self._transitions.commit("claim") as tx:
            known = self._transitions.open(tx, entry.execution_id) or entry
            known = replace(known, attempt=number, claim=bound.claim_values, trace=trace)
            self._transitions.claim(tx, known, command, self._gate.configuration(command))

    def _execute(self, bound: Bound) -> Report:
        with self._watch.over(bound.job):
            self._services.failpoints.reach("node.execute.before")
            report = bound.action.execute(bound.job, bound.claim, self._services.host)
            self._services.failpoints.reach("node.execute.after")
            return report


def fresh_claim(entry: JournalEntry, bound: Bound) -> JournalEntry:
    """The entry of a command that intake claims at once: its first attempt, bound."""
    return replace(entry, state=EntryState.CLAIMED, attempt=1, claim=bound.claim_values, executing=True)

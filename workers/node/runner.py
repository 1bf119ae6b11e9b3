"""The runner: takes one command from its journal entry to its outcome, or to the moment it must be looked at again.

Called by the lane threads with a task. The order is what makes a crash safe: ``gate`` decides again, admit and bind
touch nothing, the claim is durable before ``execute`` (``attempts``), and the outcome is durable before the task is
released. What an earlier process claimed, or what came back unknown, is probed, and runs again only where the probe is
sure that nothing happened. Must never call ``execute`` itself. Next: ``attempts``.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from workers.actions.base import Begun, Done, Effect, NotDone, Pending, Probe
from workers.domain.admission import Refused
from workers.domain.command import ActionCommand
from workers.domain.errors import JournalUnavailable, WorkerError
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, Report, code
from workers.domain.retry import LONGEST_PROBE_S, Verdict, probe_delay_s, settle_by_ns, verdict
from workers.node.attempts import Attempts
from workers.node.deadline_watch import DeadlineWatch
from workers.node.failures import Failures
from workers.node.gate import Bound, Gate
from workers.node.lanes import Task
from workers.node.live_state import JOURNAL_REST_S
from workers.node.owners import joined
from workers.node.services import Services
from workers.node.transitions import Transitions

_NS = 1_000_000_000

_UNDO_S = 0.5
"""How soon a command looks again whose target is just being released."""


@dataclass(frozen=True, slots=True)
class _Execution:
    """One command and its state."""

    task: Task
    command: ActionCommand
    entry: JournalEntry
    trace: Headers


class Runner:
    """Keeps nothing but outcomes that the journal could not take yet."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions, watch: DeadlineWatch) -> None:
        """``watch`` notices a run that does not return."""
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._watch = watch
        self._attempts = Attempts(services, gate, transitions, watch)
        self._failures = Failures(services.telemetry)
        self._unwritten: dict[ExecutionId, Report] = {}

    def step(self, task: Task) -> Task | None:
        """Do what this command needs next; the task of its next step, or None when it has ended. Blocks."""
        if self._services.health.resting:
            return self._later(task, JOURNAL_REST_S)
        try:
            return self._step(task)
        except JournalUnavailable:
            return self._later(task, JOURNAL_REST_S)

    def _step(self, task: Task) -> Task | None:
        entry = self._transitions.find(task.execution_id)
        if entry is None or entry.state in (EntryState.OBSERVED, EntryState.PUBLISHED):
            return None
        command = self._services.codec.decode(entry.command, ActionCommand)
        with self._services.telemetry.span(f"execute {command.action}", parent=entry.trace) as span:
            span.note("execution_id", entry.execution_id)
            return self._advance(_Execution(task, command, entry, span.headers() or entry.trace))

    def _advance(self, execution: _Execution) -> Task | None:
        unwritten = self._unwritten.pop(execution.entry.execution_id, None)
        if unwritten is not None:
            return self._end(execution, unwritten)
        if execution.entry.state is EntryState.RECEIVED:
            return self._begin(execution)
        if execution.task.fresh:
            return self._act(execution, self._rebound(execution), claimed=True)
        return self._settle(execution)

    def _begin(self, execution: _Execution) -> Task | None:
        """Nothing was claimed yet."""
        refused = self._gate.judge(execution.command)
        if refused is not None:
            return self._end(execution, _refusal(execution.command, refused))
        bound = self._failures.guard(execution.command, lambda: self._gate.bind_with_retries(execution.command))
        if isinstance(bound, Bound) and execution.command.dry_run:
            return self._end(execution, self._dry_run(execution.command, bound))
        return self._act(execution, bound, claimed=False)

    def _act(self, execution: _Execution, bound: Bound | Report, *, claimed: bool, begun: bool = False) -> Task | None:
        if isinstance(bound, Report):
            return self._end(execution, bound)
        owner = NO_EXECUTION if begun else self._transitions.owners.of(execution.command, bound.claim_values)
        if owner and not self._lost(owner):
            if self._transitions.undoing(owner):
                return self._later(execution.task, _UNDO_S)
            outputs = bound.action.outputs_of(bound.claim)
            return self._end(execution, joined(bound.action, owner, outputs))
        report = self._failures.guard(
            execution.command,
            lambda: self._attempts.run(execution.entry, bound, claimed=claimed, begun=begun, trace=execution.trace),
        )
        return self._end(execution, report)

    def _lost(self, owner: ExecutionId) -> bool:
        """Whether the effect that another execution holds is in place no more; then it holds nothing from now on."""
        entry = self._transitions.find(owner)
        if entry is None or entry.report is None or not entry.holds:
            self._transitions.owners.release(owner)
            return True
        command = self._services.codec.decode(entry.command, ActionCommand)
        action = self._gate.action(command)
        try:
            why = action.lost(
                Effect(action.claim_of(entry.claim), entry.report.outputs, owner, command.target), self._services.host
            )
        except WorkerError:
            return False  # not known now
        if not why or self._transitions.undoing(owner):
            return False
        with self._transitions.commit() as tx:
            found = tx.entry(owner)
            if found is not None and found.holds:
                self._transitions.lost(tx, found, command, why)
        self._transitions.holding.discard(owner)
        return True

    def _settle(self, execution: _Execution) -> Task | None:
        """It was claimed and its outcome is not known: probe, never run it again blindly."""
        bound = self._rebound(execution)
        if isinstance(bound, Report):
            return self._end(execution, bound)
        if execution.task.probes == 0:
            self._transitions.mark(execution.entry.execution_id, executing=True)
        concluding = verdict(execution.entry.blame) is not Verdict.GO_ON
        found = self._probe(execution.command, bound)
        match found:
            case Done(report=report):
                # After a crash the cause of the effect is not known; the target may have ended by itself.
                proven = execution.entry.crashes == 0
                return self._end(execution, report if proven else replace(report, cause="unproven"))
            case Pending(report=report, within_s=within_s):
                return self._wait(execution, report, within_s)
            case Begun() if concluding:
                return self._end(execution, self._conclude(execution.command, bound))
            case Begun():
                return self._act(execution, bound, claimed=False, begun=True)
            case NotDone() if concluding:
                return self._end(execution, _not_again(execution))
            case NotDone():
                return self._run_again(execution, bound)
            case _:
                assert_never(found)

    def _run_again(self, execution: _Execution, bound: Bound) -> Task | None:
        """The probe is sure that nothing happened, so running is as safe as it was the first time."""
        verdict = self._gate.judge(execution.command)
        if not isinstance(verdict, Refused):
            return self._act(execution, bound, claimed=False)
        if verdict.outcome is Outcome.EXPIRED and execution.entry.report is not None:
            message = "it ran, came back unknown, and by its expiry had no effect"
            return self._end(execution, bound.action.report(Outcome.TIMED_OUT, "no_effect", message))
        return self._end(execution, _refusal(execution.command, verdict))

    def _wait(self, execution: _Execution, report: Report, within_s: float) -> Task | None:
        """Still unknown: report it when it is new, raise the alarm when it is overdue, and probe again."""
        task = execution.task
        overdue_ns = settle_by_ns(execution.command, self._gate.timeout_s(execution.command))
        if not task.alarmed and self._services.time.now_ns() > overdue_ns:
            self._watch.alarm(execution.command)
            task = replace(task, alarmed=True)
        known = execution.entry.report
        if known is None or known.code != report.code:
            return self._end(replace(execution, task=task), report)
        if task.probes == 0:
            self._transitions.mark(execution.entry.execution_id, executing=False)
        return self._probe_later(task, within_s)

    def _conclude(self, command: ActionCommand, bound: Bound) -> Report:
        """What was begun is finished or taken back; where that fails it is UNKNOWN as long as it stands half made."""
        report = self._failures.guard(command, lambda: self._attempts.conclude(bound))
        if report.outcome is not Outcome.FAILED or not isinstance(self._probe(command, bound), Begun):
            return report
        return bound.action.report(Outcome.UNKNOWN, "half_done", f"half done, and not to be left so: {report.message}")

    def _end(self, execution: _Execution, report: Report) -> Task | None:
        try:
            with self._transitions.commit("observe") as tx:
                entry = self._transitions.open(tx, execution.entry.execution_id)
                if entry is None:
                    return None
                self._transitions.end(tx, replace(entry, trace=execution.trace), execution.command, report)
        except JournalUnavailable:
            self._unwritten[execution.entry.execution_id] = report
            raise
        return None if report.outcome.is_final else self._probe_later(execution.task)

    def _rebound(self, execution: _Execution) -> Bound | Report:
        bound = self._failures.guard(
            execution.command, lambda: self._gate.rebind(execution.command, execution.entry.claim)
        )
        if isinstance(bound, Report):
            # It was claimed, so whether nothing was touched is not known: never REJECTED.
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

    def _probe_later(self, task: Task, within_s: float = LONGEST_PROBE_S) -> Task:
        return self._later(replace(task, probes=task.probes + 1), min(within_s, probe_delay_s(task.probes)))

    def _later(self, task: Task, seconds: float) -> Task:
        return replace(
            task, fresh=False, alone=False, due_ns=self._services.clock.monotonic_ns() + max(1, round(seconds * _NS))
        )


def _not_again(execution: _Execution) -> Report:
    message = (
        "this worker died again and again while it was at work on this command alone; it has had no effect, and is not "
        "tried again"
    )
    poison = code(execution.command.action, Outcome.FAILED, "poison_action")
    return Report(Outcome.FAILED, poison, message)


def _refusal(command: ActionCommand, refused: Refused) -> Report:
    return Report(refused.outcome, code(command.action, refused.outcome, refused.reason), refused.message)

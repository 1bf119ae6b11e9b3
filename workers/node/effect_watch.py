"""The effect watch: checks again and again whether effects that were in place still are, and reports a change once.

Stepped by the loop in a thread of its own, because a runtime that hangs may hold it up. Every effect that can be undone
is watched, of every action. What an undo is lifting, or has lifted, is no loss. An effect that cannot be checked is
reported as such, once for each reason. Acts on nothing.
"""

from workers.actions.base import AnyAction, Effect
from workers.domain.command import ActionCommand
from workers.domain.errors import PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Report
from workers.node.services import Services
from workers.node.transitions import Transitions


class EffectWatch:
    """One thread."""

    def __init__(self, services: Services, transitions: Transitions) -> None:
        self._services = services
        self._transitions = transitions
        self._loaded = False
        self._weak: dict[ExecutionId, str] = {}
        """What was reported of each since this process started: a change is reported once."""
        self._unchecked: dict[ExecutionId, str] = {}
        """Why an effect could not be checked when it was looked at last, the longest ago first."""

    def step(self) -> None:
        """Check every effect that should be in place. Blocks on runtimes.

        Raises:
            JournalUnavailable, LimitExceeded, PermanentFailure: the journal is unavailable; call again.
        """
        if not self._loaded:
            self._transitions.holding.update(entry.execution_id for entry in self._services.journal.holding())
            self._loaded = True
        silent: set[object] = set()
        last = {execution_id: number for number, execution_id in enumerate(self._unchecked)}
        for execution_id in sorted(self._transitions.holding, key=lambda each: last.get(each, -1)):
            entry = self._transitions.find(execution_id)
            if entry is not None and entry.state in (EntryState.RECEIVED, EntryState.CLAIMED):
                continue  # the commit that ends it is not durable yet
            if entry is None or entry.report is None or not entry.holds:
                self._forget(execution_id)
            elif entry.claim.get("runtime", "") not in silent:
                self._check(entry, entry.report, silent)

    def _check(self, entry: JournalEntry, report: Report, silent: set[object]) -> None:
        """One effect. A runtime that does not answer is added to ``silent`` and asked about no other container in this
        look: else each of them would hold the watch up for as long as one call may take. What could not be checked goes
        last in the next look, so that one container that cannot be inspected hides none of the others."""
        try:
            command = self._services.codec.decode(entry.command, ActionCommand)
            action: AnyAction | None = self._services.catalogue.get(command.action)
            if action is None:
                raise PermanentFailure(f"this version has no action {command.action}", code="unsupported")
            effect = Effect(action.claim_of(entry.claim), report.outputs, entry.execution_id)
            why = action.lost(effect, self._services.host)
            weak = "" if why else action.weakened(effect, self._services.host)
        except WorkerError as error:
            self._report_unchecked(entry.execution_id, error)
            if isinstance(error, TransientFailure) and "runtime" in entry.claim:
                silent.add(entry.claim["runtime"])
            return
        self._unchecked.pop(entry.execution_id, None)
        if why:
            self._report(entry.execution_id, command, why, lost=True)
        elif weak != self._weak.get(entry.execution_id, ""):
            if weak:
                self._report(entry.execution_id, command, weak, lost=False)
            self._weak[entry.execution_id] = weak

    def _report(self, execution_id: ExecutionId, command: ActionCommand, why: str, *, lost: bool) -> None:
        """An undo that is under way, or ended meanwhile, explains the change: an undo claims first."""
        with self._transitions.commit() as tx:
            entry = tx.entry(execution_id)
            if entry is None or not entry.holds or self._transitions.undoing(execution_id):
                return
            if lost:
                self._transitions.lost(tx, entry, command, why)
            else:
                self._transitions.weakened(tx, entry, command, why)
        if lost:
            self._forget(execution_id)

    def _report_unchecked(self, execution_id: ExecutionId, error: WorkerError) -> None:
        """A line in the log, once for each reason; an audit record too where only a person can help."""
        known = self._unchecked.pop(execution_id, "")
        if known != error.reason:
            detail = {"reason": error.reason, "message": error.message}
            self._services.telemetry.log("effect_unchecked", level="warning", execution_id=execution_id, **detail)
            if not isinstance(error, TransientFailure):
                with self._transitions.commit() as tx:
                    self._services.recorder.audit(
                        tx,
                        "effect_unchecked",
                        at_ns=self._services.time.now_ns(),
                        execution_id=execution_id,
                        detail=detail,
                    )
        self._unchecked[execution_id] = error.reason

    def _forget(self, execution_id: ExecutionId) -> None:
        self._transitions.holding.discard(execution_id)
        self._weak.pop(execution_id, None)
        self._unchecked.pop(execution_id, None)

"""The effect watch: checks again and again whether effects that were in place still are, and reports a change once.

Stepped by the loop in a thread of its own, because a runtime that hangs may hold it up. Every effect that can be undone
is watched, of every action. What an undo is lifting, or has lifted, is no loss. An effect that cannot be checked is
reported as such, once for each reason. Acts on nothing.
"""

from dataclasses import dataclass
from typing import Any

from workers.actions.base import AnyAction, Effect
from workers.domain.command import ActionCommand
from workers.domain.errors import PermanentFailure, TransientFailure, WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Scalar
from workers.node.services import Services
from workers.node.transitions import Transitions


@dataclass(frozen=True, slots=True)
class _Watched:
    """One effect, read once: thousands of quarantined files must not cost a node its time."""

    action: AnyAction
    effect: Effect[Any]
    runtime: Scalar
    """The container runtime that is asked about it; empty for none."""


class EffectWatch:
    """One thread."""

    def __init__(self, services: Services, transitions: Transitions) -> None:
        self._services = services
        self._transitions = transitions
        self._loaded = False
        self._watched: dict[ExecutionId, _Watched] = {}
        self._weak: dict[ExecutionId, str] = {}
        """What was reported of each since this process started: a change is reported once."""
        self._unchecked: dict[ExecutionId, str] = {}
        """Why an effect could not be checked when it was looked at last, the longest ago first."""

    def step(self) -> None:
        """Check every effect that should be in place. Blocks on runtimes.

        A runtime that does not answer is asked about no other container in this look: else each of them would hold the
        watch up for as long as one call may take. What could not be checked goes last in the next look, so that one
        container that cannot be inspected hides none of the others.

        Raises:
            JournalUnavailable, LimitExceeded, PermanentFailure: the journal is unavailable; call again.
        """
        if not self._loaded:
            self._transitions.holding.update(entry.execution_id for entry in self._services.journal.holding())
            self._loaded = True
        for gone in self._watched.keys() - self._transitions.holding:
            self._forget(gone)
        silent: set[Scalar] = set()
        last = {execution_id: number for number, execution_id in enumerate(self._unchecked)}
        for execution_id in sorted(self._transitions.holding, key=lambda each: last.get(each, -1)):
            try:
                watched = self._watched.get(execution_id) or self._read(execution_id)
            except WorkerError as error:
                self._report_unchecked(execution_id, error)
                continue
            if watched is not None and watched.runtime not in silent:
                self._check(execution_id, watched, silent)

    def _read(self, execution_id: ExecutionId) -> _Watched | None:
        """What to check of an execution; None where nothing of it is in place, or the commit that ends it is not
        durable yet.

        Raises:
            JournalUnavailable: see ``step``.
            PermanentFailure, MalformedMessage: this version cannot check it.
        """
        entry = self._transitions.find(execution_id)
        if entry is not None and entry.state in (EntryState.RECEIVED, EntryState.CLAIMED):
            return None
        if entry is None or entry.report is None or not entry.holds:
            self._forget(execution_id)
            return None
        command = self._command(entry)
        action: AnyAction | None = self._services.catalogue.get(command.action)
        if action is None:
            raise PermanentFailure(f"this version has no action {command.action}", code="unsupported")
        effect = Effect(action.claim_of(entry.claim), entry.report.outputs, execution_id, command.target)
        watched = _Watched(action, effect, entry.claim.get("runtime", ""))
        self._watched[execution_id] = watched
        return watched

    def _check(self, execution_id: ExecutionId, watched: _Watched, silent: set[Scalar]) -> None:
        """One effect; its runtime is added to ``silent`` when it does not answer."""
        try:
            why = watched.action.lost(watched.effect, self._services.host)
            weak = "" if why else watched.action.weakened(watched.effect, self._services.host)
        except WorkerError as error:
            self._report_unchecked(execution_id, error)
            if isinstance(error, TransientFailure) and watched.runtime:
                silent.add(watched.runtime)
            return
        self._unchecked.pop(execution_id, None)
        if why:
            self._report(execution_id, why, lost=True)
        elif weak != self._weak.get(execution_id, ""):
            if weak:
                self._report(execution_id, weak, lost=False)
            self._weak[execution_id] = weak

    def _report(self, execution_id: ExecutionId, why: str, *, lost: bool) -> None:
        """An undo that is under way, or ended meanwhile, explains the change: an undo claims first."""
        with self._transitions.commit() as tx:
            entry = tx.entry(execution_id)
            if entry is None or not entry.holds or self._transitions.undoing(execution_id):
                return
            if lost:
                self._transitions.lost(tx, entry, self._command(entry), why)
            else:
                self._transitions.weakened(tx, entry, self._command(entry), why)
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

    def _command(self, entry: JournalEntry) -> ActionCommand:
        return self._services.codec.decode(entry.command, ActionCommand)

    def _forget(self, execution_id: ExecutionId) -> None:
        self._transitions.holding.discard(execution_id)
        self._watched.pop(execution_id, None)
        self._weak.pop(execution_id, None)
        self._unchecked.pop(execution_id, None)

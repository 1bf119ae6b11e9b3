"""The effect watch: checks again and again whether effects that were in place still are, and reports a change once.

Stepped by the loop in a thread of its own, because a runtime that hangs may hold it up. Only actions whose effect can
be lost by itself are watched (a pause ends with the daemon's restart). What an undo is lifting, or has lifted, is no
loss. Acts on nothing.
"""

from collections.abc import Iterable

from workers.actions.base import AnyAction, Effect
from workers.domain.command import ActionCommand
from workers.domain.errors import WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.journal_entry import EntryState, JournalEntry
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

    def step(self) -> None:
        """Check every effect that should be in place. Blocks on runtimes.

        Raises:
            JournalUnavailable, LimitExceeded, PermanentFailure: the journal is unavailable; call again.
        """
        if not self._loaded:
            self._load(self._services.journal.entries(EntryState.OBSERVED, EntryState.PUBLISHED))
            self._loaded = True
        for execution_id in list(self._transitions.holding):
            self._check(execution_id)

    def _load(self, entries: Iterable[JournalEntry]) -> None:
        """What was held when this process started."""
        for entry in entries:
            if entry.report is not None:
                self._transitions.held(self._command(entry), entry.report)

    def _check(self, execution_id: ExecutionId) -> None:
        entry = self._transitions.find(execution_id)
        if entry is None or entry.report is None or not entry.report.effect_holds:
            self._transitions.holding.discard(execution_id)
            return
        command = self._command(entry)
        action: AnyAction | None = self._services.catalogue.get(command.action)
        if action is None:
            return
        try:
            effect = Effect(action.claim_of(entry.claim), entry.report.outputs)
            why = action.lost(effect, self._services.host)
            weak = "" if why else action.weakened(effect, self._services.host)
        except WorkerError:
            return  # not known at the moment
        if why:
            self._report(execution_id, command, why, lost=True)
        elif weak != self._weak.get(execution_id, ""):
            if weak:
                self._report(execution_id, command, weak, lost=False)
            self._weak[execution_id] = weak

    def _report(self, execution_id: ExecutionId, command: ActionCommand, why: str, *, lost: bool) -> None:
        """An undo that is under way, or ended meanwhile, explains the change: an undo claims first."""
        with self._transitions.commit() as tx:
            undone = {
                self._command(each).undo_of
                for each in self._services.journal.entries(EntryState.RECEIVED, EntryState.CLAIMED)
            }
            entry = tx.entry(execution_id)
            if entry is None or entry.report is None or execution_id in undone:
                return
            if execution_id not in self._transitions.holding:
                return
            if lost:
                self._transitions.lost(tx, entry, command, why)
            else:
                self._transitions.weakened(tx, entry, command, why)
        if lost:
            self._transitions.holding.discard(execution_id)

    def _command(self, entry: JournalEntry) -> ActionCommand:
        return self._services.codec.decode(entry.command, ActionCommand)

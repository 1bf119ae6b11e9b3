"""Recovery: queues what a start finds unfinished in the journal, and clears the crash counts at a clean stop.

Called by the loop before the feed starts, and once more at its very end. RECEIVED entries are queued again, and the
gate ends those that expired meanwhile. CLAIMED ones are queued to be probed first; ``runner`` runs one again only
if the probe is sure that nothing happened, or finishes what the probe finds begun. What was inside an action when the
worker died runs one at a time, so that the next death shows its cause; only what was alone at work is blamed for a
death (``domain.retry``). A command that is blamed for too many is concluded by its own stages, and given up only where
even that ends the worker. OBSERVED ones need nothing: their records wait in the outbox.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from workers.actions.base import Lane
from workers.domain.command import ActionCommand
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Outcome, Report, Values, code
from workers.domain.retry import ALONE, SHARED, Verdict, verdict
from workers.node.failures import Failures, Unreadable
from workers.node.gate import Gate
from workers.node.lanes import Task
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.store.ports import JournalTx


class Recovery:
    """Reads the journal, writes who is blamed for a crash."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions) -> None:
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._failures = Failures(services.telemetry)

    def start(self) -> Sequence[Task]:
        """Count the crash, durably and before anything is probed; then the tasks of everything unfinished: first what
        runs alone, the least blamed before the others, so that no bystander waits for what ends the worker.

        Raises:
            JournalUnavailable: nothing may run; call again.
        """
        alone: list[tuple[int, Task]] = []
        rest: list[Task] = []
        with self._transitions.commit() as tx:
            self._report_floor(tx)
            entries = self._services.journal.entries(EntryState.RECEIVED, EntryState.CLAIMED)
            at_work = sum(entry.executing for entry in entries if entry.state is EntryState.CLAIMED)
            for entry in entries:
                command = self._command(entry)
                if command is None:
                    continue
                task = self._task(command)
                if entry.state is EntryState.RECEIVED:
                    rest.append(task)
                    continue
                found = _after_death(entry, at_work)
                if verdict(found.blame) is Verdict.GIVE_UP:
                    self._transitions.end(tx, found, command, self._given_up(command, found))
                    continue
                tx.put(found)
                if entry.executing or entry.report is None:
                    alone.append((found.blame, replace(task, alone=True)))
                else:
                    rest.append(task)
        return [*(task for _, task in sorted(alone, key=lambda each: each[0])), *rest]

    def leave(self, running: frozenset[str]) -> None:
        """A clean stop is no crash: nothing is blamed on what only waits to be probed.

        Raises:
            JournalUnavailable: the count stays, on the safe side.
        """
        with self._transitions.commit() as tx:
            for entry in self._services.journal.entries(EntryState.CLAIMED):
                if entry.execution_id not in running and (entry.crashes or entry.executing or entry.blame):
                    tx.put(replace(entry, crashes=0, executing=False, blame=0))

    def _report_floor(self, tx: JournalTx) -> None:
        """A floor of time that is ahead of the clock lets every command expire; an operator must see it."""
        ahead_s = self._services.time.ahead_ns // 1_000_000_000
        if ahead_s:
            remedy = "set the clock; if it is right, stop this worker and run `douse reset-clock`"
            self._services.telemetry.log("clock_suspect", level="error", floor_ahead_s=ahead_s, remedy=remedy)
            detail: Values = {"floor_ahead_s": ahead_s}
            self._services.recorder.audit(tx, "clock_suspect", at_ns=self._services.clock.now_ns(), detail=detail)

    def _command(self, entry: JournalEntry) -> ActionCommand | None:
        found = self._failures.readable(lambda: self._services.codec.decode(entry.command, ActionCommand))
        if isinstance(found, Unreadable):
            # Written by a version whose schema this one lacks: kept for that version, and logged as an error.
            self._services.telemetry.log("journal_entry_unreadable", level="error", execution_id=entry.execution_id)
            return None
        return found

    def _task(self, command: ActionCommand) -> Task:
        task = self._failures.guard(command, lambda: self._gate.task(command))
        if isinstance(task, Report):
            # The runner will end it with this same reason.
            return Task(command.command_id, Lane.CONTAINMENT, f"execution:{command.command_id}")
        return task

    def _given_up(self, command: ActionCommand, entry: JournalEntry) -> Report:
        """Not even looked at: the effect may be in place, so it is listed, and its undo finishes what is half made."""
        action = self._services.catalogue.get(command.action)
        holds = action is not None and action.reversible_by is not None
        declared = {spec.name for spec in action.outputs} if action is not None else frozenset[str]()
        outcome = Outcome.PARTIAL if holds else Outcome.FAILED
        return Report(
            outcome,
            code(command.action, outcome, "poison_action"),
            _GIVEN_UP + (_MAY_HOLD if holds else _UNKNOWN_EFFECT),
            outputs={name: value for name, value in entry.claim.items() if name in declared},
            effect_holds=holds,
            cause="unproven",
        )


_GIVEN_UP: Final = (
    "this worker died again and again while it was at work on this command alone, also while it tried to finish it or "
    "take it back; not tried again, "
)
_MAY_HOLD: Final = "and its effect may be in place or half made: it counts as held, and an undo lifts what there is"
_UNKNOWN_EFFECT: Final = "and whether it took effect is not known"


def _after_death(entry: JournalEntry, at_work: int) -> JournalEntry:
    """The entry, blamed for the death of the process before: fully if it was alone at work, hardly if others were."""
    share = (ALONE if at_work == 1 else SHARED) if entry.executing else 0
    return replace(entry, crashes=entry.crashes + 1, blame=entry.blame + share, executing=False)

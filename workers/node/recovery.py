"""Recovery: queues what a start finds unfinished in the journal, and clears the crash counts at a clean stop.

Called by the loop before the feed starts, and once more at its very end. RECEIVED entries are queued again, and the
gate ends those that expired meanwhile. CLAIMED ones are queued to be probed, never to be run. A command found CLAIMED
at three start-ups has ended three workers: it is given up, unprobed, and the others go on. OBSERVED ones need nothing:
their records wait in the outbox.
"""

from collections.abc import Sequence
from dataclasses import replace

from workers.actions.base import Lane
from workers.domain.command import ActionCommand
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Outcome, Report, Values, code
from workers.domain.retry import MAX_CRASHES
from workers.node.failures import Failures, Unreadable
from workers.node.gate import Gate
from workers.node.lanes import Task
from workers.node.services import Services
from workers.node.transitions import Transitions
from workers.store.ports import JournalTx


class Recovery:
    """Reads the journal, writes the crash counters."""

    def __init__(self, services: Services, gate: Gate, transitions: Transitions) -> None:
        self._services = services
        self._gate = gate
        self._transitions = transitions
        self._failures = Failures(services.telemetry)

    def start(self) -> Sequence[Task]:
        """Count the crash, durably and before anything is probed; then the tasks of everything unfinished.

        Raises:
            JournalUnavailable: nothing may run; call again.
        """
        tasks: list[Task] = []
        with self._transitions.commit() as tx:
            self._report_floor(tx)
            for entry in self._services.journal.entries(EntryState.RECEIVED, EntryState.CLAIMED):
                command = self._command(entry)
                if command is None:
                    continue
                if entry.state is EntryState.CLAIMED:
                    entry = replace(entry, crashes=entry.crashes + 1)  # noqa: PLW2901 - the same entry, counted
                    if entry.crashes >= MAX_CRASHES:
                        self._transitions.end(tx, entry, command, _poison(command, entry))
                        continue
                    tx.put(entry)
                tasks.append(self._task(command))
        return tasks

    def leave(self, running: frozenset[str]) -> None:
        """A clean stop is no crash: reset the count of what only waits to be probed.

        Raises:
            JournalUnavailable: the count stays, on the safe side.
        """
        with self._transitions.commit() as tx:
            for entry in self._services.journal.entries(EntryState.CLAIMED):
                if entry.execution_id not in running and entry.crashes:
                    tx.put(replace(entry, crashes=0))

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


def _poison(command: ActionCommand, entry: JournalEntry) -> Report:
    message = (
        f"found claimed at {entry.crashes} start-ups of this worker; not tried again, and whether it took effect "
        "was not looked into"
    )
    return Report(Outcome.FAILED, code(command.action, Outcome.FAILED, "poison_action"), message, cause="unproven")

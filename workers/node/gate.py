"""The gate: decides whether a command may run here, and binds it to exactly what it will act on. Touches nothing.

Called by ``inspection`` (so that what can never run is not queued) and again by ``runner`` just before the claim (so
that time, a restart or a changed settings file cannot let a command through). It decides from this node's own
catalogue, settings and journal, never from the bus; the pure part is ``domain.admission``. What binding returns is what
the claim makes durable.
"""

from dataclasses import dataclass, replace
from typing import Any

from workers.actions.base import AnyAction, Effect, Job, values_of
from workers.domain.admission import UNKNOWN_HERE, Local, Refused, judge
from workers.domain.command import ActionCommand
from workers.domain.errors import CommandRejected
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import NOTHING, Values
from workers.domain.request import ActorKind
from workers.domain.target import Target
from workers.node.lanes import DRY_RUN_RANK, Task
from workers.node.services import Services

_NS: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bound:
    """An action, its job, and the identity and pre-state that it will act on."""

    action: AnyAction
    job: Job[Any]
    claim: Any
    """Of the class that the action declares."""

    @property
    def claim_values(self) -> Values:
        """The claim as the journal holds it."""
        return values_of(self.claim)


class Gate:
    """Reads settings, catalogue, journal and host; writes nothing."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def action(self, command: ActionCommand) -> AnyAction:
        """The action a command asks for.

        Raises:
            CommandRejected: this version does not have it.
        """
        action = self._services.catalogue.get(command.action)
        if action is None:
            raise CommandRejected(f"this node knows no action {command.action!r}", code="unsupported")
        return action

    def judge(self, command: ActionCommand) -> Refused | None:
        """Why the command may not start now; None when it may."""
        return judge(command, self._local(command), now_ns=self._services.time.now_ns())

    def job(self, command: ActionCommand) -> Job[Any]:
        """The command with typed parameters, and its deadline counted from now.

        Raises:
            CommandRejected: the parameters do not fit, or there is nothing here that it could undo.
        """
        action = self.action(command)
        target, undoes = self._undone(command, action) if command.undo_of else (command.target, None)
        return Job(
            command=replace(command, target=target),
            parameters=action.parse(command.parameters),
            deadline_ns=self._services.time.now_ns() + self.timeout_s(command) * _NS,
            undoes=undoes,
        )

    def timeout_s(self, command: ActionCommand) -> int:
        """Seconds a run may take, of a paced action stand still: what this node's settings give the action, else the
        command's wish within this node's general bound."""
        settings = self._services.settings
        if (chosen_s := settings.of(command.action).timeout) is not None:
            return chosen_s
        action = self._services.catalogue.get(command.action)
        own_s = settings.timeout
        return min(command.timeout_s or (action.timeout_s if action else own_s), own_s)

    def task(self, command: ActionCommand) -> Task:
        """What the lanes queue. Commands that could touch the same thing share a key.

        Raises:
            CommandRejected: unknown action, or parameters that do not fit.
        """
        action = self.action(command)
        key = f"undo:{command.undo_of}" if command.undo_of else action.serial_key(self.job(command))
        return Task(command.command_id, action.lane, key, rank(command))

    def bind(self, command: ActionCommand) -> Bound:
        """Admit and bind, now.

        Raises:
            CommandRejected: protected, unbindable, ill-formed.
            TransientFailure: a runtime that must be asked does not answer.
        """
        action, job = self.action(command), self.job(command)
        action.admit(job, self._services.host)
        return Bound(action, job, action.bind(job, self._services.host))

    def bind_with_retries(self, command: ActionCommand) -> Bound:
        """As ``bind``, tried again as long as the command may still start. Blocks."""
        return self._services.retrying.run(lambda _: self.bind(command), first=1, deadline_ns=command.expires_at_ns)

    def rebind(self, command: ActionCommand, claim: Values) -> Bound:
        """What an earlier claim was bound to: never bound anew, so that a retry cannot drift to another target.

        Raises:
            CommandRejected, PermanentFailure: the journal's entry no longer fits this version.
        """
        action = self.action(command)
        return Bound(action, self.job(command), action.claim_of(claim))

    def configuration(self, command: ActionCommand) -> Values:
        """This node's own settings of the action, as they are while it runs."""
        section = self._services.settings.of(command.action).model_dump()
        return {
            **{name: value if isinstance(value, (int, bool)) else str(value) for name, value in section.items()},
            "timeout": self.timeout_s(command),
            "queue_length": self._services.settings.queue_length,
            "version": self._services.identity.version,
        }

    def _local(self, command: ActionCommand) -> Local:
        action = self._services.catalogue.get(command.action)
        if action is None:
            return UNKNOWN_HERE
        return Local(True, self._services.settings.switched_off_by(action.name), action.target, action.undo_only)

    def _undone(self, command: ActionCommand, action: AnyAction) -> tuple[Target | None, Effect[Any]]:
        """The target and the effect of the command that is undone, out of this node's own journal, never the bus."""
        entry = self._services.journal.entry(command.undo_of)
        if entry is None:
            raise CommandRejected(f"this node's journal has no execution {command.undo_of}", code="nothing_to_revert")
        original = self._services.codec.decode(entry.command, ActionCommand)
        forward = self._services.catalogue.get(original.action)
        if forward is None or forward.reversible_by != action.name:
            raise CommandRejected(f"{original.action} cannot be undone by {action.name}", code="not_reversible")
        if not _holds(entry):
            raise CommandRejected(f"no effect of {command.undo_of} is in place", code="nothing_to_revert")
        outputs = entry.report.outputs if entry.report else NOTHING
        return original.target, Effect(forward.claim_of(entry.claim), outputs, entry.execution_id, original.target)


def rank(command: ActionCommand) -> int:
    """The smaller goes first: people, then rules, then dry runs (a flood of either never holds up a person)."""
    if command.dry_run:
        return DRY_RUN_RANK
    return 0 if command.actor.kind is ActorKind.PERSON else 1


def _holds(entry: JournalEntry) -> bool:
    ended = entry.state in (EntryState.OBSERVED, EntryState.PUBLISHED)
    return ended and entry.report is not None and entry.report.effect_holds

"""One effect, one owner: which execution of this node holds a target, so that a second one joins it and holds nothing.

Asked by ``runner`` before it acts and by ``transitions`` when an effect is recorded. Only actions that say what their
effect is on (``Action.holds``) are kept here. In memory; loaded from the journal at the first question.
"""

from workers.actions.base import AnyAction
from workers.domain.command import ActionCommand
from workers.domain.errors import WorkerError
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.journal_entry import JournalEntry
from workers.domain.outcome import Outcome, Report, Values
from workers.node.services import Services


class Owners:
    """Every change is one operation on a dictionary, made inside the commit that makes it durable."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._owners: dict[str, ExecutionId] | None = None

    def of(self, command: ActionCommand, claim: Values) -> ExecutionId:
        """The other execution that holds what this one would; empty where none does."""
        key = self._key(command, claim)
        owner = self._known().get(key, NO_EXECUTION) if key else NO_EXECUTION
        return owner if owner != command.command_id else NO_EXECUTION

    def take(self, command: ActionCommand, claim: Values) -> None:
        """From now on this execution holds it."""
        key = self._key(command, claim)
        if key:
            self._known().setdefault(key, command.command_id)

    def release(self, execution_id: ExecutionId) -> None:
        """It holds nothing any more."""
        for key, owner in list(self._known().items()):
            if owner == execution_id:
                del self._known()[key]

    def _known(self) -> dict[str, ExecutionId]:
        if self._owners is None:
            known: dict[str, ExecutionId] = {}
            for entry in self._services.journal.holding():
                key = self._key_of(entry)
                if key:
                    known.setdefault(key, entry.execution_id)
            self._owners = known
        return self._owners

    def _key_of(self, entry: JournalEntry) -> str:
        try:
            return self._key(self._services.codec.decode(entry.command, ActionCommand), entry.claim)
        except WorkerError:
            return ""  # written by a version whose schema this one lacks

    def _key(self, command: ActionCommand, claim: Values) -> str:
        action: AnyAction | None = self._services.catalogue.get(command.action)
        if action is None or action.reversible_by is None:
            return ""
        try:
            subject = action.holds(action.claim_of(claim))
        except WorkerError:
            return ""
        return f"{action.name}:{subject}" if subject else ""


def joined(action: AnyAction, owner: ExecutionId, outputs: Values) -> Report:
    """The report of an execution whose effect another one holds."""
    message = f"execution {owner} of this node holds it already; this one holds nothing, and to lift it undo {owner}"
    return action.report(Outcome.NO_ACTION, "already_held", message, outputs={**outputs, "held_by": owner})

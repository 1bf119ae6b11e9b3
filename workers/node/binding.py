"""Binding: from a command to exactly what it will act on, without touching it.

Called by intake (where an idle node claims a command in the commit that takes it in) and by the runner; calls the
gate and the action's admit and bind. What comes out is what the claim makes durable.
"""

from dataclasses import dataclass
from typing import Any

from workers.actions.base import AnyAction, Job, values_of
from workers.domain.command import ActionCommand
from workers.domain.outcome import Values
from workers.node.gate import Gate
from workers.node.services import Services


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


class Binder:
    """Asks the host, changes nothing."""

    def __init__(self, services: Services, gate: Gate) -> None:
        """Shares the room's equipment."""
        self._services = services
        self._gate = gate

    def bind(self, command: ActionCommand) -> Bound:
        """Admit and bind, now.

        Raises:
            CommandRejected: protected, unbindable, ill-formed.
            TransientFailure: a runtime that must be asked does not answer.
        """
        action, job = self._gate.action(command), self._gate.job(command)
        action.admit(job, self._services.host)
        return Bound(action, job, action.bind(job, self._services.host))

    def bind_patiently(self, command: ActionCommand) -> Bound:
        """As ``bind``, asking again as long as the command may still start. Blocks."""
        return self._services.retrying.run(lambda _: self.bind(command), first=1, deadline_ns=command.expires_at_ns)

    def rebind(self, command: ActionCommand, claim: Values) -> Bound:
        """What an earlier claim was bound to: never bound anew, so that a retry cannot drift to another target.

        Raises:
            CommandRejected, PermanentFailure: the journal's entry no longer fits this version.
        """
        action = self._gate.action(command)
        return Bound(action, self._gate.job(command), action.claim_of(claim))

"""Policy: whether this principal may do this now. Approvals, budgets and the stop switch belong here.

Pure. Called by ``dispatcher.release`` once a request is well-formed and its node is known. Approvals, budgets and rule
modes are not built yet: until they are, what would need two people is refused, never waved through.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from workers.domain.request import ActionRequest, ActorKind

AUTO: Final = "auto"
ONE: Final = "one"


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What a decision may depend on besides the request itself."""

    approval_class: str = AUTO
    """How many people the action on this target needs."""


@dataclass(frozen=True, slots=True)
class Allow:
    """Allowed; the command carries the approval class."""

    approval_class: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Not yet: an approval is needed first, or a budget must refill."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not allowed."""

    reason: str
    message: str


Decision: TypeAlias = Allow | Hold | Refuse


def decide(request: ActionRequest, state: PolicyState) -> Decision:
    """Policy's decision on a request."""
    if request.actor.kind is ActorKind.RULE and request.causation.depth > 0:
        return Refuse("automation_depth", "automation acts on detections only, never on what an action caused")
    if state.approval_class not in (AUTO, ONE):
        return Refuse("needs_two_people", "this needs two people's signatures, and this version cannot take them yet")
    return Allow(state.approval_class)

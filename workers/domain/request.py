"""A request: a person or a rule wants an action, which is not allowed yet.

Written by the gateway (people) and the responder (rules); read by the dispatcher, which alone may turn it into a
command. The topic that a request arrives on proves which of the two wrote it; nothing inside it does.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from workers.domain.ids import NO_EVENT, NO_EXECUTION, EventId, ExecutionId
from workers.domain.outcome import NOTHING, Values
from workers.domain.target import Target


class Verb(StrEnum):
    """What is requested."""

    EXECUTE = "execute"
    UNDO = "undo"
    CANCEL = "cancel"
    APPROVE = "approve"
    DENY = "deny"


class ActorKind(StrEnum):
    """The kind of requester: a person through the gateway, or a rule through the responder."""

    PERSON = "person"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Actor:
    """The principal behind a request."""

    kind: ActorKind
    name: str
    """A user name, or a rule's name."""


@dataclass(frozen=True, slots=True)
class Causation:
    """What led here. ``depth`` 0 is a detection or a person; automation may act at depth 0 only."""

    event_id: EventId = NO_EVENT
    rule: str = ""
    depth: int = 0


NO_CAUSE: Final = Causation()
"""No detection and no rule: a person acts."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a request, with the execution id it will have."""

    execution_id: ExecutionId
    action: str
    target: Target | None
    """None where an undo takes everything from the node's own journal."""
    parameters: Values = field(default_factory=lambda: NOTHING)
    on: tuple[str, ...] = ()
    """Outcomes of the step before after which this one is released; empty means any success (COMPLETED, NO_ACTION,
    DRY_RUN). Means nothing on the first step."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One request; a rule's carries all its steps, released one by one on the outcome of the one before."""

    verb: Verb
    requested_at_ns: int
    actor: Actor
    host: str
    """Node id or host name; empty for verbs that name an execution."""
    steps: tuple[Step, ...]
    reason: str = ""
    dry_run: bool = False
    ttl_s: int = 0
    """Seconds after which nothing may start; 0 takes the action's own."""
    undo_after_s: int = 0
    """Seconds after which a success is undone automatically; 0 never."""
    subject: ExecutionId = NO_EXECUTION
    """The execution an undo, cancel, approve or deny is about."""
    caller_id: str = ""
    """The client's own correlation id, echoed."""
    causation: Causation = NO_CAUSE
    detected_at_ns: int = 0
    """The event's time, for time-to-contain; 0 where no event led here."""
    cooldown_key: str = ""
    """Set by the responder: one automated action per rule and target incarnation within the rule's cooldown."""
    cooldown_s: int = 0
    echo: Values = field(default_factory=lambda: NOTHING)
    """What a client of the compatible API sent as parameters, as it came; echoed, and nothing acts on it."""

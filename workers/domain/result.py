"""A result: one step of one execution on the wire, signed by the node or the dispatcher.

Written by node and dispatcher, folded by ``domain.history.execution``, subscribed to by audit consumers.
"""

from dataclasses import dataclass, field
from typing import Final

from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, NodeId
from workers.domain.outcome import NOTHING, Outcome, PostCondition, Stage, Values
from workers.domain.request import ActionRequest

UNSETTLED: Final = "outcome_unsettled"
"""The alarm of a node whose command stays UNKNOWN beyond its time."""
EFFECT_LOST: Final = "effect_lost"
"""The alarm of a node that found the effect of a command no longer in place, and not by an undo."""
EFFECT_WEAKENED: Final = "effect_weakened"
"""The alarm of a node that found the effect of a command changed from outside; it is still there and can be undone."""
NODE_ALARMS: Final = frozenset({UNSETTLED, EFFECT_LOST, EFFECT_WEAKENED})
"""Every other alarm is the dispatcher's."""


@dataclass(frozen=True, slots=True)
class ActionResult:
    """One step. ``(execution_id, producer, attempt, seq)`` names it; the same four with other content is a conflict."""

    execution_id: ExecutionId
    producer: str
    """``node`` or ``dispatcher``."""
    node_id: NodeId
    """Empty while no node is resolved."""
    incarnation: Incarnation
    record_no: int
    """Counts every signed record of its producer, so that a gap shows."""
    attempt: int
    seq: int
    """Counts the steps of this execution."""
    stage: Stage
    at_ns: int
    action: str
    outcome: Outcome | None = None
    """Set when ``stage`` is ENDED."""
    code: str = ""
    message: str = ""
    outputs: Values = field(default_factory=lambda: NOTHING)
    post_condition: PostCondition | None = None
    effect_holds: bool = False
    cause: str = ""
    late: bool = False
    """The outcome was observed after the command's expiry."""
    undo_of: ExecutionId = NO_EXECUTION
    request: ActionRequest | None = None
    """The whole request, in REQUESTED records only."""
    configuration: Values = field(default_factory=lambda: NOTHING)
    """The node's own settings of this action when it ran; in CLAIMED records only."""
    deadline_ns: int = 0
    """The command's expiry, in DISPATCHED records."""
    alarm: str = ""
    """An alarm on the execution (``node_silent``), which is not an end."""
    command_sha256: str = ""
    """SHA-256 of the signed command that this step answers: the proof of what was commanded."""

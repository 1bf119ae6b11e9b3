"""A command: an allowed request, stamped and signed for exactly one node.

Made by the dispatcher, carried inside an ``Envelope``, run by the node it names. Everything that a node may rely on is
in here, because only these bytes are signed.
"""

import hashlib
from dataclasses import dataclass, field

from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import NOTHING, Values
from workers.domain.request import NO_CAUSE, Actor, Causation
from workers.domain.target import Target


@dataclass(frozen=True, slots=True)
class ActionCommand:
    """One command. Times are nanoseconds since the epoch."""

    command_id: ExecutionId
    node_id: NodeId
    node_key: KeyId
    """The node key that the dispatcher knows; a node with another key refuses."""
    incarnation: Incarnation
    action: str
    target: Target | None
    parameters: Values
    parameters_sha256: str
    issued_at_ns: int
    not_before_ns: int
    expires_at_ns: int
    """After it nothing may start; the timeout bounds a run that has started."""
    timeout_s: int
    actor: Actor
    reason: str = ""
    dry_run: bool = False
    approval_class: str = "auto"
    """``auto``, ``one`` or ``two``: how many people must have agreed."""
    approvals: tuple[bytes, ...] = ()
    """Each approver's own signed envelope; verified on the node where the class asks for it."""
    undo_of: ExecutionId = NO_EXECUTION
    causation: Causation = NO_CAUSE
    detected_at_ns: int = 0
    caller_id: str = ""
    annotations: Values = field(default_factory=lambda: NOTHING)


def parameters_digest(parameters: Values) -> str:
    """SHA-256 (hex) over the parameters in sorted order, types included: ``1``, ``"1"`` and ``True`` all differ."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        value = parameters[name]
        for part in (name, type(value).__name__, str(value)):
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8))
            digest.update(encoded)
    return digest.hexdigest()

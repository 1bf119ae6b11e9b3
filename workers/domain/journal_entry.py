"""One command in a node's journal: the log of truth for effects.

Kept by ``store.journal``; advanced by the node worker. States only ever go forward.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.log.record import Headers
from workers.domain.outcome import NOTHING, Report, Values


class EntryState(StrEnum):
    """RECEIVED: verified and durable. CLAIMED: intent durable, the effect may have begun. OBSERVED: outcome durable,
    its records in the outbox. PUBLISHED: Kafka acknowledged them."""

    RECEIVED = "RECEIVED"
    CLAIMED = "CLAIMED"
    OBSERVED = "OBSERVED"
    PUBLISHED = "PUBLISHED"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """All that a restart needs to go on with one command."""

    execution_id: ExecutionId
    state: EntryState
    command: bytes
    """The encoded ActionCommand, byte for byte as it was signed."""
    command_sha256: str
    received_at_ns: int
    expires_at_ns: int
    attempt: int = 0
    seq: int = 0
    """Steps reported so far by this node."""
    crashes: int = 0
    """How often a start-up found this entry CLAIMED."""
    executing: bool = False
    """It may be inside its action right now: durable before the action begins, cleared when it returns. What a start-up
    finds so was at work when the worker died."""
    undone_by: ExecutionId = NO_EXECUTION
    """The execution that undid it with success."""
    blame: int = 0
    """How much points to this command as the cause of the worker's deaths; see ``domain.retry``."""
    claim: Values = field(default_factory=lambda: NOTHING)
    """Identity and pre-state that were durable before the first destructive call."""
    report: Report | None = None
    late: bool = False
    trace: Headers = ()
    answer: bytes = b""
    """The signed result that ended it (or reports UNKNOWN), byte for byte as it was queued. For a duplicate of the
    command exactly these bytes are queued again, so that history gets a step that it knows and not a second one."""

    @property
    def holds(self) -> bool:
        """Whether its effect is in place as far as this node knows."""
        return self.report is not None and self.report.effect_holds and not self.undone_by

"""What the dispatcher keeps in its ledger, as values: executions, nodes, sent commands and cooldowns.

Read and written through ``ledger_rows``. Pure values; what is derived from one row alone is a method of it.
"""

from dataclasses import dataclass
from typing import Final

from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, Stage

STAGE_SEQ: Final = {Stage.REQUESTED: 0, Stage.HELD: 1, Stage.DISPATCHED: 2}
"""The sequence number of each step that the dispatcher writes at most once."""

FIRST_FREE_SEQ: Final = len(STAGE_SEQ)
"""Ends and alarms count from here."""

_NO_NODE: Final = NodeId("")
NO_INCARNATION: Final = Incarnation("")


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """One step of one request, and how far it is."""

    execution_id: ExecutionId
    request_id: ExecutionId
    """The execution id of the request's first step: the key of its request row."""
    number: int
    """Which step of its request, from 0."""
    action: str
    stage: Stage = Stage.REQUESTED
    outcome: str = ""
    """Set when ENDED, and while the node reports UNKNOWN."""
    seq: int = FIRST_FREE_SEQ
    """Of the next end or alarm."""
    undo_of: ExecutionId = NO_EXECUTION
    undone_by: ExecutionId = NO_EXECUTION
    node_id: NodeId = _NO_NODE
    incarnation: Incarnation = NO_INCARNATION
    command_sha256: str = ""
    issued_at_ns: int = 0
    expires_at_ns: int = 0
    timeout_s: int = 0
    log_id: str = ""
    """The log its command went to; empty when that is not known, so that nothing can be proven."""
    topic: str = ""
    partition: int = -1
    at_least: int = 0
    """Every copy of its command has at least this offset."""
    asked: int = 0
    """How often it was sent to its node once more, because it had expired unanswered."""
    effect_holds: bool = False
    follows: bool = False
    """Whether something follows its end: the next step, or a timed undo."""
    trace: Headers = ()

    @property
    def has_final_outcome(self) -> bool:
        """Whether it has ended, and not with UNKNOWN."""
        return self.stage is Stage.ENDED and Outcome(self.outcome).is_final

    @property
    def alarmed(self) -> bool:
        """Whether the alarm ``node_silent`` was raised; nothing else takes a sequence number before the end."""
        return self.seq > FIRST_FREE_SEQ

    def silence_due_ns(self, silent_after_s: int) -> int:
        """When the alarm ``node_silent`` is due; 0 once it was raised, for it is raised once."""
        if self.alarmed:
            return 0
        return self.expires_at_ns + (self.timeout_s + silent_after_s) * 1_000_000_000


@dataclass(frozen=True, slots=True)
class NodeRow:
    """The newest verified heartbeat of one node, as far as commands need it. It is also the mark that no older
    heartbeat may pass, so the row stays for as long as the ledger does."""

    node_id: NodeId
    node_key: KeyId
    incarnation: Incarnation
    zone: str
    host_names: tuple[str, ...]
    record_no: int
    at_ns: int
    """The newest signed time, of any incarnation. It never goes back."""
    earlier: tuple[Incarnation, ...] = ()
    """Incarnations that it had before, oldest first. Their heartbeats are never news again."""
    disputed: tuple[str, ...] = ()
    """The host names among its own that belong to another node."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A signed command and where it goes, kept until it has ended: the same bytes may have to be sent again."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Which request a cooldown began with, and until when it lasts."""

    request_id: ExecutionId
    until_ns: int

"""What a test saw of a node: the common language of the guarantees, filled by unit, integration and e2e tests alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.domain.command import ActionCommand
from workers.domain.ids import ExecutionId
from workers.domain.node_state import DeadLetter
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord


@dataclass(frozen=True, slots=True)
class Effect:
    """Something was done to the world, as an observer outside the worker saw it."""

    execution_id: ExecutionId
    target: str
    """The target's incarnation: equal for two effects only when the same thing was done to twice."""
    at_ns: int = 0
    """By the clock that the commands' times are in; 0 where the observer has none."""
    lane: str = ""
    intended: bool | None = None
    """Whether the journal held a durable intent at that very moment; None where nobody could look."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One run of one node, looked at when everything had come to rest."""

    accepted: Mapping[ExecutionId, ActionCommand] = field(default_factory=dict)
    """Genuine commands for this node that reached it."""
    strangers: frozenset[ExecutionId] = frozenset()
    """Ids of commands that this node must never run: forged, for others, of another incarnation, expired."""
    results: Sequence[ActionResult] = ()
    """Every result on the wire that verifies, repetitions included, in order."""
    effects: Sequence[Effect] = ()
    audit: Sequence[AuditRecord] = ()
    dead_letters: Sequence[DeadLetter] = ()
    switched_off: frozenset[str] = frozenset()
    """Names of actions whose trigger is NONE on this node."""
    protected: frozenset[str] = frozenset()
    """Targets (as in `Effect.target`, or the part before the slash) that this node must not touch."""
    gathering_stuck: int = 0
    """How many gathering actions were stuck all the while; their executions are not expected to end."""
    stuck: frozenset[ExecutionId] = frozenset()
    """Executions that are known to hang on purpose."""

    def of(self, execution_id: ExecutionId) -> list[ActionResult]:
        """One execution's results, in order."""
        return [result for result in self.results if result.execution_id == execution_id]

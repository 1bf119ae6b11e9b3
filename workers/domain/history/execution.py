"""History: one execution folded out of its steps, in any order, with any duplication.

The fold is a join-semilattice: an execution is the *set* of its steps, joining is set union, and what people see is a
pure function of that set. So folding is commutative, associative and idempotent by construction. Called by the
projector; stored by ``store.history``; shown by the gateway.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, NodeId, uuid7_time_ns
from workers.domain.outcome import NOTHING, Outcome, PostCondition, Stage, Values
from workers.domain.request import ActionRequest, Step
from workers.domain.result import EFFECT_LOST, ActionResult

StepKey: TypeAlias = tuple[str, int, int, str]
"""(producer, attempt, seq, sha256 of the payload): equal only for the very same step."""

NODE: Final = "node"
"""The producer of a node's results; every other one is the dispatcher."""

UNDELIVERED: Final = "undelivered"
"""The reason of the one end but ``node_state_lost`` that the dispatcher decides after it has signed the command."""

UNDOABLE: Final = (Outcome.COMPLETED, Outcome.PARTIAL)
"""How an execution ended of which an undo may take something back."""

UNDOS_SHOWN: Final = 10
"""Of one execution: whoever may undo it may request that any number of times."""

_STAGES: Final = (Stage.REQUESTED, Stage.HELD, Stage.DISPATCHED, Stage.CLAIMED, Stage.ENDED)


@dataclass(frozen=True, slots=True)
class FoldedStep:
    """One verified step, and the digest of its signed payload."""

    result: ActionResult
    digest: str
    payload: bytes = field(default=b"", repr=False, compare=False)
    """The exact bytes that ``digest`` was made from."""
    signed: bytes = field(default=b"", repr=False, compare=False)
    """The envelope as it travelled: with the keyset it proves the step to any reader."""

    @property
    def key(self) -> StepKey:
        """What makes two deliveries the same step."""
        return (self.result.producer, self.result.attempt, self.result.seq, self.digest)

    @property
    def rank(self) -> tuple[int, bool, int, int, bool, str]:
        """The later stage wins; then a final outcome, the later attempt, the later step, the node before others."""
        result = self.result
        final = result.outcome is not None and result.outcome.is_final
        return (
            _STAGES.index(result.stage),
            final,
            result.attempt,
            result.seq,
            result.producer == "node",
            self.digest,
        )


@dataclass(frozen=True, slots=True)
class Undo:
    """An execution that is to undo another one, as far as that one shows it. Times as in ``Execution``."""

    execution_id: ExecutionId
    node_id: NodeId
    actor: str
    """The person or rule that requested it; for a timed undo whatever requested the action."""
    stage: Stage
    outcome: Outcome | None
    code: str
    requested_at_ns: int
    ended_at_ns: int

    @property
    def is_open(self) -> bool:
        """Whether it may still take effect."""
        return self.outcome is None or not self.outcome.is_final


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution as history knows it. Times are nanoseconds since the epoch, 0 where not reached."""

    execution_id: ExecutionId
    action: str
    stage: Stage
    outcome: Outcome | None
    code: str
    message: str
    node_id: NodeId
    incarnation: Incarnation
    undo_of: ExecutionId
    attempts: int
    outputs: Values
    post_condition: PostCondition | None
    effect_holds: bool
    cause: str
    late: bool
    conflict: bool
    """Two different final outcomes, or two different records for one step, were signed. Shown, never hidden."""
    alarms: tuple[str, ...]
    configuration: Values
    command_sha256: str
    dispatched_at_ns: int
    claimed_at_ns: int
    ended_at_ns: int
    updated_at_ns: int
    request: ActionRequest | None
    """None until the REQUESTED step arrives."""
    steps: tuple[FoldedStep, ...] = field(default=(), repr=False)
    undos: tuple[Undo, ...] = ()
    """What is to undo it, newest request first. Not part of the fold: the store adds it (``with_undos``)."""
    journal_lost: bool = False
    """Its node has begun another journal since, which knows nothing of it. Added by the store, too."""

    @property
    def undone_by(self) -> Undo | None:
        """The undo that took effect on its own node. ``NO_ACTION`` is none: then the effect was lost before."""
        return next((each for each in self.undos if _undoes(each, self.node_id)), None)

    @property
    def asked(self) -> Step | None:
        """This execution's own step of the request."""
        steps = self.request.steps if self.request is not None else ()
        return next((step for step in steps if step.execution_id == self.execution_id), None)

    @property
    def requested_at_ns(self) -> int:
        """When it was requested; the time inside its id while the request is not folded yet."""
        return self.request.requested_at_ns if self.request is not None else uuid7_time_ns(self.execution_id)


def with_undos(execution: Execution, undos: Iterable[Undo], *, journal_lost: bool = False) -> Execution:
    """The execution as its undos leave it: what was undone holds no more. All undos count, the newest are shown."""
    newest = sorted(undos, key=lambda each: (each.requested_at_ns, each.execution_id), reverse=True)
    done = next((each for each in newest if _undoes(each, execution.node_id)), None)
    shown = newest[:UNDOS_SHOWN]
    if done is not None and done not in shown:
        shown[-1] = done
    holds = execution.effect_holds and done is None
    return replace(execution, undos=tuple(shown), effect_holds=holds, journal_lost=journal_lost)


def why_not_undoable(execution: Execution, *, reversible: bool) -> str:
    """Why an undo that is requested now would be refused, as far as history knows; empty where none is known.
    ``reversible`` says whether its action has an undo."""
    undone, outcome = execution.undone_by, execution.outcome
    if not reversible or execution.undo_of:
        return f"{execution.action or 'it'} cannot be undone"
    if undone is not None:
        return f"it was undone by {undone.execution_id}"
    if outcome is None or not outcome.is_final:
        return "it has not ended"
    if owner := execution.outputs.get("held_by"):
        return f"its effect is that of {owner}: undo that one"
    if outcome not in UNDOABLE:
        return f"it ended {outcome}: Douse has changed nothing that an undo could take back"
    if EFFECT_LOST in execution.alarms:
        return "its effect was lost, and not by an undo (effect_lost)"
    if not execution.effect_holds:
        return "it left no effect that an undo could take back"
    if execution.journal_lost:
        return f"node {execution.node_id} lost the journal that knows what was done"
    waiting = next((each for each in execution.undos if each.is_open), None)
    return f"{waiting.execution_id} is undoing it" if waiting is not None else ""


def _undoes(undo: Undo, node_id: NodeId) -> bool:
    return undo.outcome is Outcome.COMPLETED and undo.node_id == node_id


def fold(execution_id: ExecutionId, steps: Iterable[FoldedStep]) -> Execution:
    """The execution that its steps make together.

    An alarm is listed and changes nothing else, except that an effect which its node found lost holds no more. A node
    has a say only once a record of the dispatcher has given it the execution; steps of any other node are shown as a
    conflict and have no other effect. What an undo undoes is what the dispatcher bound it to.

    Raises:
        ValueError: no steps, or a step of another execution.
    """
    unique = {step.key: step for step in steps}
    ordered = tuple(sorted(unique.values(), key=lambda step: step.rank))
    if not ordered or any(step.result.execution_id != execution_id for step in ordered):
        raise ValueError(f"fold needs at least one step, all of {execution_id}")
    given_to = _given_to(ordered)
    own = [step for step in ordered if _counts(step, given_to)]
    if not own:
        return _nobodys(execution_id, ordered)
    results = [step.result for step in own]
    decided = [result for result in results if result.producer != NODE]
    undo_of = _last([result.undo_of for result in decided], NO_EXECUTION)
    ladder = [result for result in results if not result.alarm]
    top = ladder[-1] if ladder else results[-1]
    stage = top.stage if ladder else Stage.DISPATCHED
    ended = stage is Stage.ENDED
    return Execution(
        execution_id=execution_id,
        action=_last([r.action for r in decided], "") or top.action,
        stage=stage,
        outcome=(top.outcome or Outcome.UNKNOWN) if ended else None,
        code=top.code if ladder else "",
        message=top.message if ladder else "",
        node_id=_last([r.node_id for r in results], NodeId("")),
        incarnation=_last([r.incarnation for r in results], Incarnation("")),
        outputs=top.outputs,
        post_condition=top.post_condition,
        effect_holds=top.effect_holds and not any(result.alarm == EFFECT_LOST for result in results),
        cause=top.cause,
        late=top.late,
        undo_of=undo_of,
        attempts=max(result.attempt for result in results),
        conflict=len(own) < len(ordered) or _conflicting(own) or any(r.undo_of != undo_of for r in results),
        alarms=_alarms(own, foreign=len(own) < len(ordered)),
        configuration=_last([r.configuration for r in results], NOTHING),
        command_sha256=_last([r.command_sha256 for r in results], ""),
        dispatched_at_ns=_first_at(results, Stage.DISPATCHED),
        claimed_at_ns=_first_at(results, Stage.CLAIMED),
        ended_at_ns=top.at_ns if ended else 0,
        updated_at_ns=max(result.at_ns for result in results),
        request=_last([result.request for result in results], None),
        steps=ordered,
    )


FOREIGN_NODE: Final = "foreign_node"
"""The alarm on an execution for which a node signed a step that it was never sent to."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """Nodes that signed a step of an execution which no record of the dispatcher gave to them."""

    execution_id: ExecutionId
    nodes: tuple[NodeId, ...]
    given_to: NodeId
    """The node that it was given to; empty while there is no such record, which may still arrive."""


def dispute(execution_id: ExecutionId, steps: Iterable[FoldedStep]) -> Dispute | None:
    """Which nodes had no right to speak for an execution; None where there are none."""
    ordered = sorted(steps, key=lambda step: step.rank)
    given_to = _given_to(ordered)
    nodes = {step.result.node_id for step in ordered if not _counts(step, given_to)}
    return Dispute(execution_id, tuple(sorted(nodes)), given_to) if nodes else None


def _given_to(ordered: Sequence[FoldedStep]) -> NodeId:
    """The node that the dispatcher signed the command for; empty where no record of it says so. What it ended before
    signing was given to nobody."""
    return _last([step.result.node_id for step in ordered if _is_after_signing(step.result)], NodeId(""))


def _is_after_signing(result: ActionResult) -> bool:
    if result.producer == NODE:
        return False
    ended_outside = result.outcome is Outcome.UNKNOWN or result.code.endswith(UNDELIVERED)
    return result.stage is Stage.DISPATCHED or (result.stage is Stage.ENDED and ended_outside)


def _counts(step: FoldedStep, given_to: NodeId) -> bool:
    return step.result.producer != NODE or (bool(given_to) and step.result.node_id == given_to)


def _nobodys(execution_id: ExecutionId, ordered: Sequence[FoldedStep]) -> Execution:
    """An execution that only nodes speak of. Nothing of what they say counts until the dispatcher's record is there."""
    return Execution(
        execution_id=execution_id,
        action=ordered[-1].result.action,
        stage=Stage.REQUESTED,
        outcome=None,
        code="",
        message="",
        node_id=NodeId(""),
        incarnation=Incarnation(""),
        undo_of=NO_EXECUTION,
        attempts=0,
        outputs=NOTHING,
        post_condition=None,
        effect_holds=False,
        cause="",
        late=False,
        conflict=True,
        alarms=(FOREIGN_NODE,),
        configuration=NOTHING,
        command_sha256="",
        dispatched_at_ns=0,
        claimed_at_ns=0,
        ended_at_ns=0,
        updated_at_ns=max(step.result.at_ns for step in ordered),
        request=None,
        steps=tuple(ordered),
    )


def _alarms(steps: Sequence[FoldedStep], *, foreign: bool) -> tuple[str, ...]:
    named = {step.result.alarm for step in steps if step.result.alarm}
    return tuple(sorted(named | {FOREIGN_NODE} if foreign else named))


T = TypeVar("T")


def _last(values: Sequence[T], empty: T) -> T:
    """The value of the highest-ranked step that has one."""
    return next((value for value in reversed(values) if value), empty)


def _first_at(results: Iterable[ActionResult], stage: Stage) -> int:
    return min((result.at_ns for result in results if result.stage is stage and not result.alarm), default=0)


def _conflicting(steps: Sequence[FoldedStep]) -> bool:
    """Two final outcomes, or two versions of one step; the same content under a new record number is one version."""
    finals = {s.result.outcome for s in steps if s.result.outcome is not None and s.result.outcome.is_final}
    return len(finals) > 1 or _has_two_versions(steps)


def _has_two_versions(steps: Sequence[FoldedStep]) -> bool:
    versions: dict[tuple[str, int, int], ActionResult] = {}
    return any(
        replace(first, record_no=0) != replace(step.result, record_no=0)
        for step in steps
        if (first := versions.setdefault(step.key[:3], step.result)) is not step.result
    )

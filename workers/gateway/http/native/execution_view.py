"""One execution, its steps and its proof, as the native API shows them.

Made by the routes. Pure. Shows what history has and adds nothing: a stage is never called an outcome.
"""

from typing import Final

from workers.domain.history.execution import Execution, FoldedStep, Undo, why_not_undoable
from workers.domain.node_state import Progress
from workers.domain.outcome import PostCondition, Stage
from workers.gateway.http.native.fleet_view import ProgressView
from workers.gateway.http.native.target_view import Flat, TargetView, View, flat
from workers.gateway.http.native.times import shown
from workers.gateway.http.services import Signer
from workers.gateway.requests import Catalogue

_STAGES: Final = tuple(Stage)


class PostConditionView(View):
    """What was checked after acting."""

    name: str
    """What was checked."""
    holds: bool
    """Whether it held."""
    detail: str
    """What was observed."""

    @classmethod
    def of(cls, checked: PostCondition) -> "PostConditionView":
        """A post-condition that was checked."""
        return cls(name=checked.name, holds=checked.holds, detail=checked.detail)


class StepView(View):
    """One signed step of an execution."""

    stage: str
    """REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED."""
    outcome: str | None
    """How it ended, in ENDED steps."""
    code: str
    """The stable code."""
    message: str
    """An explanation for people."""
    producer: str
    """What wrote the step: dispatcher or node."""
    attempt: int
    """The try it belongs to; 0 before the first."""
    seq: int
    """Counts this producer's steps of the execution."""
    at: str | None
    """When."""
    alarm: str
    """An alarm on the execution, which is not an end."""
    signer: str
    """Fingerprint of the key whose signature was verified; empty if the store does not have it."""
    digest: str
    """SHA-256 of the exact bytes that were signed."""

    @classmethod
    def of(cls, step: FoldedStep, signer: Signer) -> "StepView":
        """A folded step."""
        result = step.result
        return cls(
            stage=result.stage,
            outcome=result.outcome,
            code=result.code,
            message=result.message,
            producer=result.producer,
            attempt=result.attempt,
            seq=result.seq,
            at=shown(result.at_ns),
            alarm=result.alarm,
            signer=signer(step.signed),
            digest=step.digest,
        )


class UndoView(View):
    """An execution that is to undo another one."""

    id: str
    """The undo's own execution id."""
    actor: str
    """The person or rule that requested it; for a timed undo whatever requested the action."""
    stage: str
    """REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED."""
    outcome: str | None
    """How it ended; only COMPLETED has undone anything."""
    code: str
    """The stable code."""
    requested_at: str | None
    """When it was requested."""
    ended_at: str | None
    """When its outcome was known."""

    @classmethod
    def of(cls, undo: Undo) -> "UndoView":
        """An undo as history has it."""
        return cls(
            id=undo.execution_id,
            actor=undo.actor,
            stage=undo.stage,
            outcome=undo.outcome,
            code=undo.code,
            requested_at=shown(undo.requested_at_ns),
            ended_at=shown(undo.ended_at_ns),
        )


class TimingsView(View):
    """How long containment took; null if a time is missing. Microseconds."""

    detected_at: str | None
    """The event's time; null if a person requested it without an event."""
    acted_at: str | None
    """When the node had claimed the execution and began to act."""
    verified_at: str | None
    """When the outcome was known and its post-condition checked."""
    detected_to_acted_us: int | None
    """From the event to the node's claim."""
    acted_to_verified_us: int | None
    """From the node's claim to the checked outcome."""
    detected_to_verified_us: int | None
    """From the event to the checked outcome."""

    @classmethod
    def of(cls, execution: Execution) -> "TimingsView":
        """The times of an execution."""
        request = execution.request
        detected = request.detected_at_ns if request is not None else 0
        acted, verified = execution.claimed_at_ns, execution.ended_at_ns
        return cls(
            detected_at=shown(detected),
            acted_at=shown(acted),
            verified_at=shown(verified),
            detected_to_acted_us=_between(detected, acted),
            acted_to_verified_us=_between(acted, verified),
            detected_to_verified_us=_between(detected, verified),
        )


class ExecutionView(View):
    """One execution: the request, the stage, the outcome and the proof."""

    id: str
    """A UUIDv7."""
    action: str
    """The action's name in the catalogue."""
    stage: str
    """REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED."""
    outcome: str | None
    """COMPLETED, PARTIAL, NO_ACTION, FAILED, REJECTED, TIMED_OUT, EXPIRED, CANCELED, DRY_RUN or UNKNOWN; None until it
    has ended."""
    code: str
    """The stable code: action, success or error, reason."""
    message: str
    """An explanation for people."""
    host: str
    """The host as the request named it."""
    node_id: str
    """The node it was resolved to; empty until then."""
    incarnation: str
    """Which incarnation of that node's journal."""
    target: TargetView | None
    """What it acts on; None for an undo, or until the request is folded."""
    parameters: Flat
    """The action's parameters."""
    actor: str
    """The person or rule that requested it."""
    actor_kind: str
    """person or rule; empty until the request is folded."""
    reason: str
    """The reason that was given."""
    rule: str
    """The rule that requested it; empty for a person."""
    event_id: str
    """The event that led here."""
    caller_id: str
    """The client's own correlation id."""
    dry_run: bool
    """Whether nothing was to be touched."""
    undo_of: str
    """The execution that this one undoes."""
    undo_after_s: int
    """Seconds after which a success is undone by itself; 0 never."""
    attempts: int
    """How often it was tried."""
    outputs: Flat
    """What the action reports, as its catalogue entry describes."""
    post_condition: PostConditionView | None
    """What was checked after acting."""
    effect_holds: bool
    """Whether an effect is in place that an undo could reverse; false once it was undone or lost."""
    undoable: bool
    """Whether an undo that is requested now would be sent to the node, as far as history knows."""
    why_not_undoable: str
    """Why not; empty where it can be undone."""
    undone_by: UndoView | None
    """What undid it; null until then."""
    undos: tuple[UndoView, ...]
    """What was requested to undo it, with any outcome, newest first; at most 10."""
    cause: str
    """action, or unproven if the effect was found in place after a crash."""
    late: bool
    """The outcome was observed after the command's expiry."""
    conflict: bool
    """Two different final outcomes, or two records for one step, were signed."""
    alarms: tuple[str, ...]
    """Such as node_silent."""
    progress: ProgressView | None = None
    """How far its copy or upload was at the node's newest heartbeat; null where none is under way, and in lists."""
    configuration: Flat
    """The node's own settings of this action when it ran."""
    command_sha256: str
    """SHA-256 of the signed command."""
    requested_at: str | None
    """When it was requested."""
    dispatched_at: str | None
    """When the dispatcher had signed and sent it."""
    claimed_at: str | None
    """When the node had made its intent durable."""
    ended_at: str | None
    """When the outcome was known."""
    updated_at: str | None
    """The newest step."""
    timings: TimingsView
    """Detected, acted, verified."""
    steps: tuple[StepView, ...] = ()
    """In order of stage; only when one execution is read."""

    @classmethod
    def of(
        cls, execution: Execution, *, signer: Signer, catalogue: Catalogue, progress: Progress | None = None
    ) -> "ExecutionView":
        """The execution, with its steps where history gave them."""
        request, asked, checked = execution.request, execution.asked, execution.post_condition
        action, undone = catalogue.get(execution.action), execution.undone_by
        reversible = action is not None and action.reversible_by is not None
        why_not = why_not_undoable(execution, reversible=reversible)
        return cls(
            id=execution.execution_id,
            action=execution.action,
            stage=execution.stage,
            outcome=execution.outcome,
            code=execution.code,
            message=execution.message,
            host=request.host if request is not None else "",
            node_id=execution.node_id,
            incarnation=execution.incarnation,
            target=TargetView.of(asked.target) if asked is not None and asked.target is not None else None,
            parameters=flat(asked.parameters) if asked is not None else {},
            actor=request.actor.name if request is not None else "",
            actor_kind=request.actor.kind if request is not None else "",
            reason=request.reason if request is not None else "",
            rule=request.causation.rule if request is not None else "",
            event_id=request.causation.event_id if request is not None else "",
            caller_id=request.caller_id if request is not None else "",
            dry_run=request.dry_run if request is not None else False,
            undo_of=execution.undo_of,
            undo_after_s=request.undo_after_s if request is not None else 0,
            attempts=execution.attempts,
            outputs=flat(execution.outputs),
            post_condition=PostConditionView.of(checked) if checked is not None else None,
            effect_holds=execution.effect_holds,
            undoable=not why_not,
            why_not_undoable=why_not,
            undone_by=UndoView.of(undone) if undone is not None else None,
            undos=tuple(UndoView.of(undo) for undo in execution.undos),
            cause=execution.cause,
            late=execution.late,
            conflict=execution.conflict,
            alarms=execution.alarms,
            progress=ProgressView.of(progress) if progress is not None else None,
            configuration=flat(execution.configuration),
            command_sha256=execution.command_sha256,
            requested_at=shown(execution.requested_at_ns),
            dispatched_at=shown(execution.dispatched_at_ns),
            claimed_at=shown(execution.claimed_at_ns),
            ended_at=shown(execution.ended_at_ns),
            updated_at=shown(execution.updated_at_ns),
            timings=TimingsView.of(execution),
            steps=tuple(StepView.of(step, signer) for step in sorted(execution.steps, key=_rank)),
        )


def _rank(step: FoldedStep) -> tuple[int, int, int, int]:
    result = step.result
    return (_STAGES.index(result.stage), result.attempt, result.seq, result.at_ns)


def _between(start_ns: int, end_ns: int) -> int | None:
    return (end_ns - start_ns) // 1000 if start_ns and end_ns else None

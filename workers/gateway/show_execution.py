"""Executions as the native face shows them.

Called by ``http.native``; pure. Shows what history says and adds nothing: a stage is never called an outcome.
"""

from collections.abc import Callable, Iterable
from typing import Final

from workers.domain.event import ProcessRef
from workers.domain.history.execution import Execution, FoldedStep, fold
from workers.domain.ids import NO_EXECUTION, Incarnation, NodeId
from workers.domain.outcome import PostCondition, Stage, Values
from workers.domain.request import ActionRequest
from workers.domain.result import ActionResult
from workers.domain.target import Target
from workers.gateway.times import shown
from workers.gateway.views.executions import ExecutionView, PostConditionView, StepView, TimingsView
from workers.gateway.views.targets import Flat, TargetProcessView, TargetView

Signer = Callable[[bytes], str]
"""The key id inside a signed envelope; empty where the bytes are none."""

_EXACT: Final = 1 << 53
"""The largest whole number up to which a double holds every other."""

_LADDER: Final = tuple(Stage)


def execution(execution: Execution, *, signer: Signer) -> ExecutionView:
    """The execution, with its steps where history gave them."""
    request, asked = execution.request, execution.asked
    return ExecutionView(
        id=execution.execution_id,
        action=execution.action,
        stage=execution.stage,
        outcome=execution.outcome,
        code=execution.code,
        message=execution.message,
        host=request.host if request is not None else "",
        node_id=execution.node_id,
        incarnation=execution.incarnation,
        target=target(asked.target) if asked is not None and asked.target is not None else None,
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
        post_condition=_post_condition(execution.post_condition),
        effect_holds=execution.effect_holds,
        cause=execution.cause,
        late=execution.late,
        conflict=execution.conflict,
        alarms=execution.alarms,
        configuration=flat(execution.configuration),
        command_sha256=execution.command_sha256,
        requested_at=shown(execution.requested_at_ns),
        dispatched_at=shown(execution.dispatched_at_ns),
        claimed_at=shown(execution.claimed_at_ns),
        ended_at=shown(execution.ended_at_ns),
        updated_at=shown(execution.updated_at_ns),
        timings=_timings(execution),
        steps=tuple(_step(step, signer) for step in sorted(execution.steps, key=_rung)),
    )


def awaited(request: ActionRequest) -> Execution:
    """The execution that a request will be once it is folded: asked for, and nothing more is known."""
    step = request.steps[0]
    asked = ActionResult(
        execution_id=step.execution_id,
        producer="dispatcher",
        node_id=NodeId(""),
        incarnation=Incarnation(""),
        record_no=0,
        attempt=0,
        seq=0,
        stage=Stage.REQUESTED,
        at_ns=request.requested_at_ns,
        action=step.action,
        undo_of=request.subject or NO_EXECUTION,
        request=request,
    )
    return fold(step.execution_id, [FoldedStep(asked, "")])


def target(target: Target) -> TargetView:
    """What is acted on."""
    return TargetView(
        kind=target.kind,
        description=target.describe(),
        observed_at=shown(target.observed_at_ns),
        process_line=processes(target.processes),
        container_id=target.container,
        path=target.file_path.decode("utf-8", "backslashreplace"),
    )


def processes(line: Iterable[ProcessRef]) -> tuple[TargetProcessView, ...]:
    """A process and its ancestors."""
    return tuple(
        TargetProcessView(ref.pid, shown(ref.started_at_ns or 0), ref.exe, ref.name, ref.command_line) for ref in line
    )


def flat(values: Values) -> Flat:
    """Values as JSON can carry them everywhere: a whole number that a double cannot hold becomes text."""
    return {
        name: str(value) if isinstance(value, int) and not -_EXACT <= value <= _EXACT else value
        for name, value in values.items()
    }


def _step(step: FoldedStep, signer: Signer) -> StepView:
    result = step.result
    return StepView(
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


def _rung(step: FoldedStep) -> tuple[int, int, int, int]:
    result = step.result
    return (_LADDER.index(result.stage), result.attempt, result.seq, result.at_ns)


def _post_condition(checked: PostCondition | None) -> PostConditionView | None:
    return None if checked is None else PostConditionView(checked.name, checked.holds, checked.detail)


def _timings(execution: Execution) -> TimingsView:
    request = execution.request
    detected = request.detected_at_ns if request is not None else 0
    acted, verified = execution.claimed_at_ns, execution.ended_at_ns
    return TimingsView(
        detected_at=shown(detected),
        acted_at=shown(acted),
        verified_at=shown(verified),
        detected_to_acted_us=_between(detected, acted),
        acted_to_verified_us=_between(acted, verified),
        detected_to_verified_us=_between(detected, verified),
    )


def _between(start_ns: int, end_ns: int) -> int | None:
    return (end_ns - start_ns) // 1000 if start_ns and end_ns else None

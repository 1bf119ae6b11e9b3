"""Checks what was submitted and turns it into an ``ActionRequest``.

Called by ``intake`` before anything is written. Pure: time, ids and the event are arguments. Checks form and
consistency; the dispatcher decides whether it is allowed, and the node whether it is possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from workers.actions.base import AnyAction
from workers.domain.errors import CommandRejected
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep, fold
from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, NodeId
from workers.domain.outcome import NOTHING, Stage, Values
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.request_bounds import fitted
from workers.domain.result import ActionResult
from workers.domain.target import Target
from workers.domain.target_kind import NoTarget
from workers.gateway.principals import Principal
from workers.gateway.refusals import Conflict, Invalid

Catalogue = Mapping[str, AnyAction]
"""Every action by its name."""


@dataclass(frozen=True, slots=True)
class Named:
    """A target as a person names it: its kind, and values of that kind's ``name_fields``."""

    kind: type[Target]
    names: Values


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for an action, as a client sends it."""

    action: str
    host: str = ""
    target: Named | None = None
    event_id: str = ""
    parameters: Values = field(default_factory=lambda: NOTHING)
    reason: str = ""
    dry_run: bool = False
    ttl_s: int = 0
    undo_after_s: int = 0
    caller_id: str = ""
    echo: Values = field(default_factory=lambda: NOTHING)
    """What a client of the compatible API sent as parameters; echoed, never acted on."""


def action_of(name: str, catalogue: Catalogue) -> AnyAction:
    """The action of a name or API type (``kill_process``, ``KILL_PROCESS``).

    Raises:
        Invalid: there is none, or it only runs as an undo.
    """
    action = catalogue.get(name.lower())
    if action is None:
        known = ", ".join(sorted(catalogue))
        raise Invalid(f"there is no action {name[:64]!r}; there are: {known}", code="unknown_action", field="action")
    if action.undo_only:
        raise Invalid(f"{action.name} only runs as an undo: DELETE the execution that it should undo", field="action")
    return action


def execute(
    submission: Submission,
    catalogue: Catalogue,
    *,
    person: Principal,
    execution_id: ExecutionId,
    now_ns: int,
    event: RuntimeEvent | None,
) -> ActionRequest:
    """The request to run an action; ``event`` is the one that ``submission.event_id`` names.

    Raises:
        Invalid: with the field that is wrong.
    """
    action = action_of(submission.action, catalogue)
    try:
        action.parse(submission.parameters)
    except CommandRejected as error:
        raise Invalid(error.message, code=error.reason, field="parameters") from None
    if submission.undo_after_s and action.reversible_by is None:
        raise Invalid(f"{action.name} cannot be undone: leave out undo_after_s", field="undo_after_s")
    host = submission.host or (event.host if event is not None else "")
    if not host:
        raise Invalid("host is missing: give a node id or host name", field="host")
    request = ActionRequest(
        verb=Verb.EXECUTE,
        requested_at_ns=now_ns,
        actor=_person(person),
        host=host,
        steps=(Step(execution_id, action.name, _target(submission, action, event, now_ns), submission.parameters),),
        reason=submission.reason,
        dry_run=submission.dry_run,
        ttl_s=submission.ttl_s,
        undo_after_s=submission.undo_after_s,
        caller_id=submission.caller_id,
        causation=Causation(event.event_id) if event is not None else Causation(),
        detected_at_ns=event.occurred_at_ns if event is not None else 0,
        echo=submission.echo,
    )
    return fitted(request)


def undo(
    done: Execution, catalogue: Catalogue, *, person: Principal, execution_id: ExecutionId, now_ns: int, reason: str
) -> ActionRequest:
    """The request to undo an execution; the node takes everything else from its own journal.

    Raises:
        Conflict: the action has no undo.
    """
    action = catalogue.get(done.action)
    if action is None or action.reversible_by is None:
        raise Conflict(f"{done.action or 'this execution'} cannot be undone", code="irreversible")
    request = _about(Verb.UNDO, done, person=person, now_ns=now_ns, reason=reason)
    return replace(request, steps=(Step(execution_id, action.reversible_by, None),))


def cancel(running: Execution, *, person: Principal, now_ns: int, reason: str) -> ActionRequest:
    """The request to cancel an execution that has not ended.

    Raises:
        Conflict: it has ended.
    """
    if running.outcome is not None and running.outcome.is_final:
        raise Conflict(f"it has already ended: {running.outcome}", code="ended")
    return _about(Verb.CANCEL, running, person=person, now_ns=now_ns, reason=reason)


def differs(submission: ActionRequest, known: ActionRequest) -> str:
    """The first field in which a request differs from the one that used its idempotency key before; empty if none."""
    pairs: tuple[tuple[str, object, object], ...] = (
        ("verb", submission.verb, known.verb),
        ("subject", submission.subject, known.subject),
        ("action", submission.steps[0].action, known.steps[0].action),
        ("host", submission.host, known.host),
        ("target", _names(submission.steps[0].target), _names(known.steps[0].target)),
        ("parameters", dict(submission.steps[0].parameters), dict(known.steps[0].parameters)),
        ("dry_run", submission.dry_run, known.dry_run),
        ("event_id", submission.causation.event_id, known.causation.event_id),
    )
    return next((name for name, new, before in pairs if new != before), "")


def expected_execution(request: ActionRequest) -> Execution:
    """The execution as history will have it once it has folded the request."""
    step = request.steps[0]
    requested = ActionResult(
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
    return fold(step.execution_id, [FoldedStep(requested, "")])


def _names(target: Target | None) -> object:
    """What a target names, without the time of the request."""
    return None if target is None else (target.kind, dict(target.names()))


def _person(person: Principal) -> Actor:
    return Actor(ActorKind.PERSON, person.name)


def _about(verb: Verb, subject: Execution, *, person: Principal, now_ns: int, reason: str) -> ActionRequest:
    return ActionRequest(
        verb=verb,
        requested_at_ns=now_ns,
        actor=_person(person),
        host="",
        steps=(),
        reason=reason,
        subject=subject.execution_id,
    )


def _target(submission: Submission, action: AnyAction, event: RuntimeEvent | None, now_ns: int) -> Target:
    if (submission.target is None) == (event is None):
        raise Invalid("name either a target or an event_id, not both", field="target")
    target = _of_event(event, action) if event is not None else _named(submission.target, now_ns)
    if not isinstance(target, action.target):
        raise Invalid(f"{action.name} acts on a {action.target.kind}, not on a {target.kind}", field="target")
    return target


def _of_event(event: RuntimeEvent, action: AnyAction) -> Target:
    target = action.target.from_event(event)
    if isinstance(target, NoTarget):
        message = f"event {event.event_id} names no {action.target.kind}: {target.message}"
        raise Invalid(message, code="event_lacks_target", field="event_id")
    return target


def _named(named: Named | None, now_ns: int) -> Target:
    if named is None:
        raise Invalid("name either a target or an event_id", field="target")
    target = named.kind.named(named.names, now_ns=now_ns)
    if (fault := target.fault()) is not None:
        raise Invalid(fault.message, field=f"target.{target.kind}.{fault.field}".rstrip("."))
    return target

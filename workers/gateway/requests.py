"""What somebody asked for, checked and turned into an ``ActionRequest``.

Called by ``intake`` before anything is written. Pure: time, ids and the event come as arguments. Checks form and
consistency; whether it is allowed is the dispatcher's question, whether it can be done the node's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from workers.actions.base import AnyAction
from workers.domain.errors import CommandRejected
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution
from workers.domain.ids import ExecutionId
from workers.domain.outcome import NOTHING, Values
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
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
    """An action somebody wants, as they put it."""

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
    """What a client of the compatible face sent as parameters; echoed, never acted on."""


def action_of(name: str, catalogue: Catalogue) -> AnyAction:
    """The action of a name or API type (``kill_process``, ``KILL_PROCESS``).

    Raises:
        Invalid: there is none, or it only ever runs as an undo.
    """
    action = catalogue.get(name.lower())
    if action is None:
        known = ", ".join(sorted(catalogue))
        raise Invalid(f"there is no action {name[:64]!r}; there are: {known}", code="unknown_action", field="action")
    if action.undo_only:
        raise Invalid(f"{action.name} only undoes: DELETE the execution to be undone", field="action")
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
        raise Invalid(f"{action.name} cannot be undone, so undo_after_s means nothing", field="undo_after_s")
    host = submission.host or (event.host if event is not None else "")
    if not host:
        raise Invalid("host is missing: name a node id or host name", field="host")
    return ActionRequest(
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


def undo(
    done: Execution, catalogue: Catalogue, *, person: Principal, execution_id: ExecutionId, now_ns: int, reason: str
) -> ActionRequest:
    """The request to undo an execution; everything else the node takes from its own journal.

    Raises:
        Conflict: there is nothing that could be undone.
    """
    action = catalogue.get(done.action)
    if action is None or action.reversible_by is None:
        raise Conflict(f"{done.action or 'this execution'} cannot be undone", code="irreversible")
    request = _about(Verb.UNDO, done, person=person, now_ns=now_ns, reason=reason)
    return replace(request, steps=(Step(execution_id, action.reversible_by, None),))


def cancel(running: Execution, *, person: Principal, now_ns: int, reason: str) -> ActionRequest:
    """The request to cancel an execution that has not ended.

    Raises:
        Conflict: it has.
    """
    if running.outcome is not None and running.outcome.is_final:
        raise Conflict(f"it has ended already: {running.outcome}", code="ended")
    return _about(Verb.CANCEL, running, person=person, now_ns=now_ns, reason=reason)


def differs(submission: ActionRequest, known: ActionRequest) -> str:
    """The first field in which a request under a used idempotency key wants something else; empty when none does."""
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
    return next((name for name, mine, theirs in pairs if mine != theirs), "")


def _names(target: Target | None) -> object:
    """What a target names, without the moment it was asked for."""
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
        raise Invalid("name either a target or an event_id, and not both", field="target")
    target = _of_event(event, action) if event is not None else _named(submission.target, now_ns)
    if not isinstance(target, action.target):
        raise Invalid(f"{action.name} acts on a {action.target.kind}, not on a {target.kind}", field="target")
    return target


def _of_event(event: RuntimeEvent, action: AnyAction) -> Target:
    target = action.target.from_event(event)
    if isinstance(target, NoTarget):
        message = f"event {event.event_id} names no {action.target.kind}"
        raise Invalid(message, code="event_lacks_target", field="event_id")
    return target


def _named(named: Named | None, now_ns: int) -> Target:
    if named is None:
        raise Invalid("name either a target or an event_id", field="target")
    target = named.kind.named(named.names, now_ns=now_ns)
    if (fault := target.fault()) is not None:
        raise Invalid(fault.message, field=f"target.{target.kind}.{fault.field}".rstrip("."))
    return target

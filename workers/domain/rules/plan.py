"""From an event and a rule that matched it to one request, or to the reason why there is none.

Called by the responder and by ``douse rules test``. Pure: ids follow from their causes, so that a crashed and restarted
responder requests the very same executions, and the dispatcher sees one request. Never guesses a target.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from workers.domain.event import RuntimeEvent
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.request_bounds import fitted
from workers.domain.rules.rule import INTERNAL, Mode, Rule
from workers.domain.target import Target
from workers.domain.target_kind import NoTarget

OWN_SOURCE: Final = "douse"
"""Detector or source of events made from Douse's own audit stream."""

FUTURE_S: Final = 60
"""How far a detector's clock may be ahead of this one, in seconds; beyond it the time proves nothing."""

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule that matched requests nothing."""

    code: str
    """``internal_event``, ``loop_suppressed``, ``too_old``, ``from_the_future``, ``no_host``, ``lacks_field``,
    ``container_unclear``, ``protected_pid`` or ``unknown_target``."""
    message: str
    field: str = ""
    """The detector's field that is missing, where that is the reason."""


Plan: TypeAlias = ActionRequest | Refusal


def is_own_echo(event: RuntimeEvent) -> bool:
    """Whether Douse's own audit caused the event: automation acts on detections only, never on its own echo."""
    return bool(event.caused_by) or OWN_SOURCE in (event.detector, event.source)


def plan(event: RuntimeEvent, rule: Rule, *, now_ns: int, oldest_event_s: int) -> Plan:
    """What ``rule`` requests on ``event`` at ``now_ns``; nothing for an event older than ``oldest_event_s``."""
    refused = _refusal(event, now_ns=now_ns, oldest_event_s=oldest_event_s)
    if refused is not None:
        return refused
    steps: list[Step] = []
    targets: list[Target] = []
    for number, rule_step in enumerate(rule.steps):
        target = rule_step.target.from_event(event, ancestor=rule_step.ancestor)
        if isinstance(target, NoTarget):
            return Refusal(target.code, target.message, target.field)
        targets.append(target)
        steps.append(
            Step(step_id(event, rule, number), rule_step.action, target, dict(rule_step.parameters), rule_step.on)
        )
    request = ActionRequest(
        verb=Verb.EXECUTE,
        requested_at_ns=now_ns,
        actor=Actor(ActorKind.RULE, rule.name),
        host=event.host,
        steps=tuple(steps),
        reason=rule.reason or f"{event.rule} ({event.detector})",
        dry_run=rule.mode is Mode.OBSERVE,
        ttl_s=rule.ttl_s,
        undo_after_s=rule.undo_after_s,
        causation=Causation(event.event_id, rule.name),
        detected_at_ns=event.occurred_at_ns,
        cooldown_key=f"{rule.name}/{event.host}/{targets[0].incarnation}",
        cooldown_s=rule.cooldown_s,
    )
    return fitted(request)


def step_id(event: RuntimeEvent, rule: Rule, number: int) -> ExecutionId:
    """The execution id of one step: its causes are event, rule and step, its time is the event's."""
    return id_from_cause(event.occurred_at_ns, event.event_id, rule.name, str(number))


def _refusal(event: RuntimeEvent, *, now_ns: int, oldest_event_s: int) -> Refusal | None:
    """What keeps any rule from acting on the event."""
    age_ns = now_ns - event.occurred_at_ns
    if event.source == INTERNAL:
        return Refusal("internal_event", "the event is about the detector itself")
    if is_own_echo(event):
        return Refusal("loop_suppressed", "an action of Douse caused this event; automation acts on detections only")
    if age_ns > oldest_event_s * _SECOND_NS:
        return Refusal("too_old", f"{age_ns // _SECOND_NS} s old; at most {oldest_event_s} s are acted on")
    if age_ns < -FUTURE_S * _SECOND_NS:
        return Refusal(
            "from_the_future", f"{-age_ns // _SECOND_NS} s ahead of this machine's clock: correct one of the two"
        )
    if not event.host:
        return Refusal("no_host", "the event names no host: falcosidekick passes on Falco's hostname", "hostname")
    return None

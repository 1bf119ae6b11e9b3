"""From an event and a rule that matched it to one request, or to the reason why there is none.

Called by the responder and by ``douse rules test``. Pure: ids follow from their causes, so that a crashed and restarted
responder asks for the very same executions, and the dispatcher sees one request. Never guesses a target.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from workers.domain.event import RuntimeEvent
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.rules.rules import INTERNAL, Mode, Rule, RuleStep
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget, Target

OWN_SOURCE: Final = "douse"
"""Detector or source of events made from our own audit stream."""

_FALCO: Final = "falco"
"""The detector whose rules choose what they print."""

FUTURE_S: Final = 60
"""How far a detector's clock may be ahead of ours, in seconds; beyond it the time proves nothing (SAFETY F14)."""

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule that matched asks for nothing."""

    code: str
    """``internal_event``, ``loop_suppressed``, ``too_old``, ``from_the_future``, ``no_host``, ``lacks_field``,
    ``protected_pid`` or ``unknown_target``."""
    message: str
    field: str = ""
    """The detector's field that is missing, where that is the reason."""


Plan: TypeAlias = ActionRequest | Refusal


def is_ours(event: RuntimeEvent) -> bool:
    """Whether our own audit caused the event: automation acts on detections only, never on its own echo."""
    return bool(event.caused_by) or OWN_SOURCE in (event.detector, event.source)


def plan(event: RuntimeEvent, rule: Rule, *, now_ns: int, oldest_event_s: int) -> Plan:
    """What ``rule`` asks for on ``event`` at ``now_ns``; events older than ``oldest_event_s`` ask for nothing."""
    refused = _unfit(event, now_ns=now_ns, oldest_event_s=oldest_event_s)
    if refused is not None:
        return refused
    steps: list[Step] = []
    for number, rule_step in enumerate(rule.steps):
        target = _target(event, rule_step)
        if isinstance(target, Refusal):
            return target
        steps.append(
            Step(step_id(event, rule, number), rule_step.action, target, dict(rule_step.parameters), rule_step.on)
        )
    return ActionRequest(
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
        cooldown_key=cooldown_key(event, rule),
        cooldown_s=rule.cooldown_s,
    )


def step_id(event: RuntimeEvent, rule: Rule, number: int) -> ExecutionId:
    """The execution id of one step: its causes are event, rule and step, its time is the event's."""
    return id_from_cause(event.occurred_at_ns, event.event_id, rule.name, str(number))


def cooldown_key(event: RuntimeEvent, rule: Rule) -> str:
    """Rule and target incarnation: within a cooldown, one request for each.

    Without a start time a pid's holder is known for the second of the event only: a longer memory of a bare pid would
    let an attacker hide behind the pid of what was killed before.
    """
    step = rule.steps[0]
    if step.target is ProcessTarget:
        process = event.process_line[step.ancestor]
        since = process.started_at_ns or f"~{event.occurred_at_ns // _SECOND_NS}"
        incarnation = f"process/{process.pid}/{since}"
    elif step.target is ContainerTarget and event.container is not None:
        incarnation = f"container/{event.container.id[:12]}"
    elif step.target is NetworkTarget:
        incarnation = f"network/{event.container.id[:12] if event.container else ''}"
    else:
        incarnation = f"file/{event.container.id[:12] if event.container else ''}/{event.file_path}"
    return f"{rule.name}/{event.host}/{incarnation}"


def network_of(event: RuntimeEvent) -> NetworkTarget | None:
    """The network of an event's container, or of its host where it says that there is no container; None where Falco
    did not print ``host`` in its stead: a whole host is never isolated for want of a field, or for a wrong one."""
    if event.container is not None:
        return NetworkTarget(event.occurred_at_ns, event.container.id)
    unsaid = event.detector == _FALCO and event.fields.get("container.id") != "host"
    return None if unsaid else NetworkTarget(event.occurred_at_ns)


def _unfit(event: RuntimeEvent, *, now_ns: int, oldest_event_s: int) -> Refusal | None:
    """What keeps any rule from acting on the event."""
    age_ns = now_ns - event.occurred_at_ns
    if event.source == INTERNAL:
        return Refusal("internal_event", "the detector speaks of itself")
    if is_ours(event):
        return Refusal("loop_suppressed", "an action of ours caused this event; automation acts on detections only")
    if age_ns > oldest_event_s * _SECOND_NS:
        return Refusal("too_old", f"{age_ns // _SECOND_NS} s old; at most {oldest_event_s} s are acted on")
    if age_ns < -FUTURE_S * _SECOND_NS:
        return Refusal("from_the_future", f"{-age_ns // _SECOND_NS} s ahead of our clock: set one of the two right")
    if not event.host:
        return Refusal("no_host", "the event names no host: falcosidekick passes on Falco's hostname", "hostname")
    return None


def _target(event: RuntimeEvent, step: RuleStep) -> Target | Refusal:
    if step.target is ProcessTarget:
        return _process(event, step.ancestor)
    if step.target is ContainerTarget:
        if event.container is None:
            return _lacks("container.full_id")
        return ContainerTarget(event.container.id, event.occurred_at_ns)
    if step.target is FileTarget:
        if not event.file_path:
            return _lacks("fd.name")
        inside = event.container.id if event.container is not None else ""
        return FileTarget(event.file_path.encode(), event.occurred_at_ns, inside)
    if step.target is NetworkTarget:
        return network_of(event) or _lacks("container.id")
    return Refusal("unknown_target", f"{step.action} takes a target that no event names")


def _process(event: RuntimeEvent, ancestor: int) -> ProcessTarget | Refusal:
    if len(event.process_line) <= ancestor:
        first = len(event.process_line)
        return _lacks("proc.pid" if first == 0 else "proc.ppid" if first == 1 else f"proc.apid[{first}]")
    pid = event.process_line[ancestor].pid
    if pid <= 1:
        return Refusal("protected_pid", f"pid {pid} is never a target")
    return ProcessTarget(event.process_line[: ancestor + 1], event.occurred_at_ns)


def _lacks(field: str) -> Refusal:
    return Refusal("lacks_field", f"event lacks {field}: add Falco's append_output fields (deploy/falco)", field)

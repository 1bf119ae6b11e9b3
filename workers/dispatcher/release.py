"""Releases the steps of a request one by one: checks, policy, cooldown, then the stamp; and what an end sets free.

Called by ``intake`` (a new request), ``follow`` and ``timers`` (a step ended). Decides ends only before signing:
REJECTED, EXPIRED, CANCELED. Never releases a step twice: only a row in REQUESTED is looked at.
"""

from dataclasses import replace
from typing import Any, Final

from workers.actions.base import Action
from workers.dispatcher import signing
from workers.dispatcher.hosts import resolve
from workers.dispatcher.rows import ExecutionRow, NodeRow
from workers.dispatcher.services import Turn
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome, Stage
from workers.domain.policy import Allow, Hold, PolicyState, Refuse
from workers.domain.request import ActionRequest, ActorKind, Step

SUCCESSES: Final = (Outcome.COMPLETED.value, Outcome.NO_ACTION.value, Outcome.DRY_RUN.value)


def release(turn: Turn, row: ExecutionRow, request: ActionRequest) -> None:
    """Let one step of an ``execute`` go, or end it saying why not."""
    try:
        action = _admitted(turn, request, row)
        fresh(turn, row, request, action)
        node = resolve(turn.rows, request.host)
        _cooldown(turn, row, request)
        if go(turn, row, request, node):
            _begin_cooldown(turn, row, request)
    except CommandRejected as refusal:
        settle(turn, refused(turn, row, refusal))


def go(turn: Turn, row: ExecutionRow, request: ActionRequest, node: NodeRow) -> bool:
    """Ask policy, and dispatch or hold; whether it was dispatched.

    Raises:
        CommandRejected: policy's own reason, ``unknown_zone``.
    """
    match turn.services.decide(request, PolicyState()):
        case Allow(approval_class):
            signing.dispatch(turn, row, request, node, approval_class=approval_class)
            return True
        case Hold(reason, message):
            expires_at_ns = signing.expiry(turn, row, request, turn.services.actions[row.action])
            held = replace(row, stage=Stage.HELD, expires_at_ns=expires_at_ns)
            turn.rows.put_execution(held, due_ns=expires_at_ns)
            turn.held(held, reason, message)
            return False
        case Refuse(reason, message):
            raise CommandRejected(message, code=reason)


def fresh(turn: Turn, row: ExecutionRow, request: ActionRequest, action: Action[Any]) -> None:
    """Raises ``CommandRejected`` (``expired``) when it waited longer than it may."""
    if signing.expiry(turn, row, request, action) <= turn.now_ns:
        late_s = (turn.now_ns - request.requested_at_ns) // signing.SECOND_NS
        raise CommandRejected(f"it was asked for {late_s} s ago, longer than it may wait", code="expired")


def refused(turn: Turn, row: ExecutionRow, refusal: CommandRejected) -> ExecutionRow:
    """End a step that may not go; nothing was signed."""
    outcome = Outcome.EXPIRED if refusal.reason == "expired" else Outcome.REJECTED
    return turn.ended(row, outcome, refusal.reason, refusal.message)


def settle(turn: Turn, row: ExecutionRow) -> None:
    """An execution has ended: release the step behind it, or end that one too; start the clock of a timed undo."""
    if not row.follows:
        return
    request = turn.rows.request(row.request_id)
    if request.undo_after_s and row.effect_holds and row.outcome == Outcome.COMPLETED and not row.undo_of:
        turn.rows.put_undo(row.execution_id, due_ns=turn.now_ns + request.undo_after_s * signing.SECOND_NS)
    following = turn.rows.step(row.request_id, row.number + 1)
    if following is None or following.stage is not Stage.REQUESTED:
        return
    wanted = request.steps[following.number].on or SUCCESSES
    if row.outcome in wanted:
        release(turn, following, request)
    else:
        message = f"the step before ended {row.outcome}; this one runs only on {', '.join(wanted)}"
        settle(turn, turn.ended(following, Outcome.CANCELED, "step_not_reached", message))


def _admitted(turn: Turn, request: ActionRequest, row: ExecutionRow) -> Action[Any]:
    """The action, if this may be asked of it at all."""
    action = turn.services.actions.get(row.action)
    if action is None:
        known = ", ".join(sorted(turn.services.actions))
        raise CommandRejected(f"there is no action {row.action!r}; there are: {known}", code="unknown_action")
    if action.undo_only:
        raise CommandRejected(f"{row.action} only runs as the undo of another action", code="undo_only")
    step = request.steps[row.number]
    action.parse(step.parameters)
    _bound(step, action, by_rule=request.actor.kind is ActorKind.RULE)
    return action


def _bound(step: Step, action: Action[Any], *, by_rule: bool) -> None:
    """The target is of the action's kind, and names an identity rather than a hope."""
    target = step.target
    if target is None or type(target) is not action.target:
        raise CommandRejected(f"{action.name} acts on a {action.target.kind}", code="invalid_target")
    if (fault := target.fault()) is not None:
        raise CommandRejected(f"{action.name}: {fault.message}", code="invalid_target")
    if by_rule and target.observed_at_ns <= 0:
        raise CommandRejected("a rule must say when it saw its target", code="unbound_target")


def _cooldown(turn: Turn, row: ExecutionRow, request: ActionRequest) -> None:
    if row.number or not request.cooldown_key or not request.cooldown_s:
        return
    running = turn.rows.cooldown(_cooldown_key(request))
    if running is not None and running[1] > turn.now_ns:
        left_s = (running[1] - turn.now_ns) // signing.SECOND_NS + 1
        raise CommandRejected(f"the same was done by {running[0]}; not again for {left_s} s", code="cooldown")


def _begin_cooldown(turn: Turn, row: ExecutionRow, request: ActionRequest) -> None:
    if row.number == 0 and request.cooldown_key and request.cooldown_s:
        until_ns = turn.now_ns + request.cooldown_s * signing.SECOND_NS
        turn.rows.put_cooldown(_cooldown_key(request), row.request_id, until_ns)


def _cooldown_key(request: ActionRequest) -> str:
    """A rehearsal never keeps the real thing from happening."""
    return f"{'dry' if request.dry_run else 'real'}/{request.cooldown_key}"

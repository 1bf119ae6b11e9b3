"""Releases the steps of a request one by one: checks, policy, cooldown, then the command; and what an end sets free.

Called by ``intake`` (a new request), ``undo``, ``follow`` and ``timers`` (a step ended). Decides ends only before
signing: REJECTED, EXPIRED, CANCELED. Never releases a step twice: only a row in REQUESTED is released. Next:
``signing``.
"""

from dataclasses import replace
from typing import Final

from workers.actions.base import AnyAction
from workers.dispatcher import signing
from workers.dispatcher.ledger_rows import Rows
from workers.dispatcher.rows import Cooldown, ExecutionRow, NodeRow
from workers.dispatcher.transaction import Transaction
from workers.domain.errors import CommandRejected
from workers.domain.ids import NodeId, is_node_id
from workers.domain.outcome import Outcome, Stage
from workers.domain.policy import Allow, Hold, PolicyState, Refuse
from workers.domain.request import ActionRequest, ActorKind, Step
from workers.domain.trust.authority import NODE_LEFT

SUCCESSES: Final = (Outcome.COMPLETED.value, Outcome.NO_ACTION.value, Outcome.DRY_RUN.value)

_NAMED_AT_MOST: Final = 5
"""Nodes that an error message lists."""


def release(tx: Transaction, row: ExecutionRow, request: ActionRequest) -> None:
    """Dispatch one step of an ``execute``, or hold it, or end it with the reason why not."""
    try:
        action = _allowed_action(tx, request, row)
        check_expiry(tx, row, request, action)
        node = resolve(tx.rows, request.host)
        check_member(tx, node.node_id)
        _check_cooldown(tx, row, request)
        if dispatch_or_hold(tx, row, request, node):
            _begin_cooldown(tx, row, request)
    except CommandRejected as refusal:
        release_next(tx, end_refused(tx, row, refusal))


def dispatch_or_hold(tx: Transaction, row: ExecutionRow, request: ActionRequest, node: NodeRow) -> bool:
    """Ask policy, and dispatch or hold; whether it was dispatched.

    Raises:
        CommandRejected: policy's own reason, ``unknown_zone``.
    """
    match tx.services.decide(request, PolicyState()):
        case Allow(approval_class):
            signing.dispatch(tx, row, request, node, approval_class=approval_class)
            return True
        case Hold(reason, message):
            expires_at_ns = signing.expiry_ns(tx, row, request, tx.services.actions[row.action])
            held = replace(row, stage=Stage.HELD, expires_at_ns=expires_at_ns)
            tx.rows.put_execution(held, due_ns=expires_at_ns)
            tx.held(held, reason, message)
            return False
        case Refuse(reason, message):
            raise CommandRejected(message, code=reason)


def check_expiry(tx: Transaction, row: ExecutionRow, request: ActionRequest, action: AnyAction) -> None:
    """Raises ``CommandRejected`` (``expired``) when it waited longer than it may. By a suspect clock nothing expires
    here: the node will judge."""
    if not tx.clocks.suspect and signing.expiry_ns(tx, row, request, action) <= tx.now_ns:
        late_s = (tx.now_ns - request.requested_at_ns) // signing.SECOND_NS
        raise CommandRejected(f"it was requested {late_s} s ago, longer than it may wait", code="expired")


def end_refused(tx: Transaction, row: ExecutionRow, refusal: CommandRejected) -> ExecutionRow:
    """End a step that may not run; nothing was signed."""
    outcome = Outcome.EXPIRED if refusal.reason == "expired" else Outcome.REJECTED
    return tx.ended(row, outcome, refusal.reason, refusal.message)


def release_next(tx: Transaction, row: ExecutionRow) -> None:
    """An execution has ended: release the step behind it, or end that one too; set the timer of a timed undo."""
    if not row.follows:
        return
    request = tx.rows.request(row.request_id)
    if request.undo_after_s and row.effect_holds and row.outcome == Outcome.COMPLETED and not row.undo_of:
        tx.rows.put_undo(row.execution_id, due_ns=tx.clocks.latest_ns() + request.undo_after_s * signing.SECOND_NS)
    following = tx.rows.step(row.request_id, row.number + 1)
    if following is None or following.stage is not Stage.REQUESTED:
        return
    wanted = request.steps[following.number].on or SUCCESSES
    if row.outcome in wanted:
        release(tx, following, request)
    else:
        message = f"the step before ended {row.outcome}; this one runs only on {', '.join(wanted)}"
        release_next(tx, tx.ended(following, Outcome.CANCELED, "step_not_reached", message))


def resolve(rows: Rows, host: str) -> NodeRow:
    """The one node that a host names: by node id, or by a host name that belongs to it.

    Raises:
        CommandRejected: ``unknown_node``, ``ambiguous_node``.
    """
    ids = [NodeId(host)] if is_node_id(host) else list(rows.holders(host)) if host else []
    if len(ids) > 1:
        named = ", ".join(sorted(ids)[:_NAMED_AT_MOST])
        raise CommandRejected(
            f"{host!r} is the name of {len(ids)} nodes; name one by id: {named}", code="ambiguous_node"
        )
    node = rows.node(ids[0]) if ids else None
    if node is None:
        raise CommandRejected(f"no node {host!r} has sent a heartbeat; `douse nodes` lists them", code="unknown_node")
    return node


def check_member(tx: Transaction, node_id: NodeId) -> None:
    """Raises ``CommandRejected`` (``node_left``): operators retired or revoked the node, and nothing new is sent there,
    also while its key still counts."""
    if node_id in tx.services.left_nodes():
        raise CommandRejected(f"node {node_id} has left the fleet: operators retired or revoked it", code=NODE_LEFT)


def _allowed_action(tx: Transaction, request: ActionRequest, row: ExecutionRow) -> AnyAction:
    """The step's action, once its parameters and target are valid."""
    action = tx.services.actions.get(row.action)
    if action is None:
        known = ", ".join(sorted(tx.services.actions))
        raise CommandRejected(f"there is no action {row.action!r}; there are: {known}", code="unknown_action")
    if action.undo_only:
        raise CommandRejected(f"{row.action} only runs as the undo of another action", code="undo_only")
    step = request.steps[row.number]
    action.parse(step.parameters)
    _check_target(step, action, by_rule=request.actor.kind is ActorKind.RULE)
    return action


def _check_target(step: Step, action: AnyAction, *, by_rule: bool) -> None:
    """The target is of the action's kind and names an identity."""
    target = step.target
    if target is None or type(target) is not action.target:
        raise CommandRejected(f"{action.name} acts on a {action.target.kind}", code="invalid_target")
    if (fault := target.fault()) is not None:
        raise CommandRejected(f"{action.name}: {fault.message}", code="invalid_target")
    if by_rule and target.observed_at_ns <= 0:
        raise CommandRejected("a rule's target needs the time at which it was observed", code="unbound_target")


def _check_cooldown(tx: Transaction, row: ExecutionRow, request: ActionRequest) -> None:
    if row.number or not request.cooldown_key or not request.cooldown_s:
        return
    running = tx.rows.cooldown(_cooldown_key(request))
    if running is not None and running.until_ns > tx.now_ns:
        left_s = (running.until_ns - tx.now_ns) // signing.SECOND_NS + 1
        raise CommandRejected(f"{running.request_id} did the same; not again for {left_s} s", code="cooldown")


def _begin_cooldown(tx: Transaction, row: ExecutionRow, request: ActionRequest) -> None:
    if row.number == 0 and request.cooldown_key and request.cooldown_s:
        until_ns = tx.now_ns + request.cooldown_s * signing.SECOND_NS
        tx.rows.put_cooldown(_cooldown_key(request), Cooldown(row.request_id, until_ns))


def _cooldown_key(request: ActionRequest) -> str:
    """A dry run never keeps the real run from happening."""
    return f"{'dry' if request.dry_run else 'real'}/{request.cooldown_key}"

"""Makes the one signed command of one execution: the only place where the command key is used.

Called by ``release`` and ``undo`` once everything is allowed. Never called twice for one execution id: its row leaves
REQUESTED and HELD in the same transaction.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Any

from workers.actions.base import Action
from workers.dispatcher import routes
from workers.dispatcher.rows import ExecutionRow, NodeRow, Sent
from workers.dispatcher.services import Turn
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected
from workers.domain.log.record import OutRecord
from workers.domain.outcome import Stage
from workers.domain.request import ActionRequest, Step
from workers.domain.trust.envelope import PayloadType

SECOND_NS = 1_000_000_000


def expiry(turn: Turn, row: ExecutionRow, request: ActionRequest, action: Action[Any]) -> int:
    """When nothing may start any more. The first step counts from when it was asked for, so that a request that waited
    for a dispatcher does not strike out of the blue; later steps count from their release."""
    ttl_s = request.ttl_s or action.ttl_s
    since = min(request.requested_at_ns, turn.now_ns) if row.number == 0 else turn.now_ns
    return since + ttl_s * SECOND_NS


def dispatch(turn: Turn, row: ExecutionRow, request: ActionRequest, node: NodeRow, *, approval_class: str) -> None:
    """Sign, queue and record the command of ``row``.

    Raises:
        CommandRejected: ``unknown_zone``.
    """
    action = turn.services.actions[row.action]
    route = routes.newest(turn, node.zone)
    if route is None:
        known = ", ".join(sorted(turn.services.zones))
        raise CommandRejected(
            f"node {node.node_id} is in zone {node.zone!r}, which this dispatcher does not serve ({known})",
            code="unknown_zone",
        )
    command = _command(turn, row, request, node, approval_class=approval_class)
    sealed = turn.services.signer.sign(PayloadType.COMMAND, command)
    topic, partition = route.place_of(node.node_id)
    sent = Sent(topic, partition, node.node_id.encode(), sealed.value, row.trace)
    bound = turn.services.tails.bound(topic, partition)
    after = replace(
        row,
        stage=Stage.DISPATCHED,
        node_id=node.node_id,
        incarnation=node.incarnation,
        command_sha256=sha256(sealed.payload).hexdigest(),
        issued_at_ns=command.issued_at_ns,
        expires_at_ns=command.expires_at_ns,
        timeout_s=command.timeout_s,
        topic=topic,
        partition=partition,
        log_id=bound[0].log_id if bound is not None else "",
        at_least=bound[1] if bound is not None else 0,
    )
    queue(turn, sent)
    turn.rows.put_sent(row.execution_id, sent)
    if bound is not None:
        turn.rows.put_tail(*bound)
    turn.rows.put_execution(after, due_ns=after.silence_due_ns(turn.services.silent_after_s))
    turn.dispatched(after, actor=request.actor.name, approval_class=approval_class)
    turn.services.telemetry.count("dispatcher.dispatched", labels={"action": action.name})


def queue(turn: Turn, sent: Sent) -> None:
    """Put a command's exact bytes on their way."""
    turn.tx.publish(OutRecord(sent.topic, sent.key, sent.value, sent.headers, sent.partition))


def _command(
    turn: Turn, row: ExecutionRow, request: ActionRequest, node: NodeRow, *, approval_class: str
) -> ActionCommand:
    action, step = turn.services.actions[row.action], _asked(row, request)
    return ActionCommand(
        command_id=row.execution_id,
        node_id=node.node_id,
        node_key=node.node_key,
        incarnation=node.incarnation,
        action=row.action,
        target=step.target,
        parameters=step.parameters,
        parameters_sha256=parameters_digest(step.parameters),
        issued_at_ns=turn.now_ns,
        not_before_ns=turn.now_ns,
        expires_at_ns=expiry(turn, row, request, action),
        timeout_s=action.timeout_s,
        actor=request.actor,
        reason=request.reason,
        dry_run=request.dry_run,
        approval_class=approval_class,
        undo_of=row.undo_of,
        causation=request.causation,
        detected_at_ns=request.detected_at_ns,
        caller_id=request.caller_id,
    )


def _asked(row: ExecutionRow, request: ActionRequest) -> Step:
    step = request.steps[row.number]
    return replace(step, target=None) if row.undo_of else step

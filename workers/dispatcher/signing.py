"""Makes the one signed command of an execution: the only module that signs commands.

Called by ``release`` once everything is allowed. Never called twice for one execution id: its row leaves REQUESTED or
HELD in the same transaction.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Final

from workers.actions.base import AnyAction
from workers.dispatcher import routes
from workers.dispatcher.rows import ExecutionRow, NodeRow, Sent
from workers.dispatcher.transaction import Transaction
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected
from workers.domain.log.record import OutRecord
from workers.domain.outcome import Stage
from workers.domain.request import ActionRequest
from workers.domain.trust.envelope import PayloadType

SECOND_NS: Final = 1_000_000_000


def expiry_ns(tx: Transaction, row: ExecutionRow, request: ActionRequest, action: AnyAction) -> int:
    """After when nothing may start. The first step counts from the request, so that one that waited for a dispatcher
    does not start out of the blue; later steps count from their release."""
    ttl_s = request.ttl_s or action.ttl_s
    since = min(request.requested_at_ns, tx.clocks.latest_ns()) if row.number == 0 else tx.now_ns
    return since + ttl_s * SECOND_NS


def dispatch(tx: Transaction, row: ExecutionRow, request: ActionRequest, node: NodeRow, *, approval_class: str) -> None:
    """Sign, queue and record the command of ``row``.

    Raises:
        CommandRejected: ``unknown_zone``.
    """
    topology = routes.newest(tx, node.zone)
    if topology is None:
        known = ", ".join(sorted(tx.services.zones))
        raise CommandRejected(
            f"node {node.node_id} is in zone {node.zone!r}, which this dispatcher does not serve ({known})",
            code="unknown_zone",
        )
    command = _command(tx, row, request, node, approval_class=approval_class)
    signed = tx.services.signer.sign(PayloadType.COMMAND, command)
    topic, partition = topology.place_of(node.node_id)
    sent = Sent(topic, partition, node.node_id.encode(), signed.value, row.trace)
    tail = tx.services.tails.of(topic, partition)
    after = replace(
        row,
        stage=Stage.DISPATCHED,
        node_id=node.node_id,
        incarnation=node.incarnation,
        command_sha256=sha256(signed.payload).hexdigest(),
        issued_at_ns=command.issued_at_ns,
        expires_at_ns=command.expires_at_ns,
        timeout_s=command.timeout_s,
        topic=topic,
        partition=partition,
        log_id=tail.position.log_id if tail is not None else "",
        at_least=tail.next_offset if tail is not None else 0,
    )
    queue(tx, sent)
    tx.rows.put_sent(row.execution_id, sent)
    if tail is not None:
        tx.rows.put_tail(tail)
    tx.rows.put_execution(after, due_ns=after.silence_due_ns(tx.services.silent_after_s))
    tx.dispatched(after, actor=request.actor.name, approval_class=approval_class)
    tx.services.telemetry.count("dispatcher.dispatched", labels={"action": row.action})


def queue(tx: Transaction, sent: Sent) -> None:
    """Put a command's exact bytes into the outbox."""
    tx.ledger.publish(OutRecord(sent.topic, sent.key, sent.value, sent.headers, sent.partition))


def _command(
    tx: Transaction, row: ExecutionRow, request: ActionRequest, node: NodeRow, *, approval_class: str
) -> ActionCommand:
    action, step = tx.services.actions[row.action], request.steps[row.number]
    issued_at_ns = tx.clocks.certain_ns()
    return ActionCommand(
        command_id=row.execution_id,
        node_id=node.node_id,
        node_key=node.node_key,
        incarnation=node.incarnation,
        action=row.action,
        target=None if row.undo_of else step.target,  # an undo's target is in the node's journal
        parameters=step.parameters,
        parameters_sha256=parameters_digest(step.parameters),
        issued_at_ns=issued_at_ns,
        not_before_ns=issued_at_ns,
        expires_at_ns=expiry_ns(tx, row, request, action),
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

"""Which signatory may sign what: whether a record with a genuine signature comes from a sender entitled to write it.

Pure. Called by dispatcher, responder and projector, on records whose signature has been verified. Requests of people
come from a gateway, requests of rules from a responder, events from a gateway or from the node that they are about. A
node may report only on its own executions, the dispatcher only its own decisions, and each worker writes only its own
audit chain. Answers are stable codes, empty when there is no objection.
"""

from collections.abc import Mapping
from typing import Final

from workers.domain.event import RuntimeEvent
from workers.domain.ids import NodeId, is_execution_id
from workers.domain.log import topics
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import NODE_ALARMS, ActionResult
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.keyset import KeyRole, Signatory

NODE: Final = "node"
DISPATCHER: Final = "dispatcher"

_CHAIN_WRITERS: Final = frozenset({KeyRole.GATEWAY, KeyRole.RESPONDER, KeyRole.WORKER, KeyRole.OPERATOR})
"""Roles whose keys write the audit chains that are named after their owner."""

STATE_LOST: Final = "node_state_lost"
"""The dispatcher may end an execution as UNKNOWN for two reasons only: its node came back without its journal, …"""

NODE_LEFT: Final = "node_left"
"""… or operators retired or revoked its node, whose reports count no more."""

REQUESTERS: Final[Mapping[str, KeyRole]] = {
    topics.REQUESTS_PEOPLE: KeyRole.GATEWAY,
    topics.REQUESTS_RULES: KeyRole.RESPONDER,
}
"""Which role's key must have signed what lies on each request topic."""

_BEFORE_SIGNING: Final = frozenset({Outcome.REJECTED, Outcome.EXPIRED, Outcome.CANCELED})
"""How the dispatcher ends what it never signed; EXPIRED also ends what a node's own offset proves undelivered."""


def request_objection(topic: str, signatory: Signatory) -> str:
    """Why this signatory may not request anything on this topic; empty when it may."""
    return "" if signatory.role is REQUESTERS[topic] else "wrong_role"


def event_objection(event: RuntimeEvent, signatory: Signatory) -> str:
    """Why this signatory may not report this event; empty when it may. A node reports only what it saw itself, so that
    whoever takes it over cannot have rules act on another node."""
    match signatory.role:
        case KeyRole.GATEWAY:
            return ""
        case KeyRole.NODE:
            return "" if event.host == signatory.owner else "not_its_node"
        case _:
            return "wrong_role"


def result_objection(result: ActionResult, signatory: Signatory) -> str:
    """Why this signatory may not write this result; empty when it may."""
    if not is_execution_id(result.execution_id):
        return "bad_execution_id"
    if result.undo_of and not is_execution_id(result.undo_of):
        return "bad_execution_id"
    match result.producer:
        case "node":
            if not signatory.is_node(result.node_id):
                return "not_its_node"
            return "" if _may_come_from_node(result) else "not_a_nodes_word"
        case "dispatcher":
            if signatory.role is not KeyRole.DISPATCHER:
                return "not_the_dispatcher"
            return "" if _may_come_from_dispatcher(result) else "not_the_dispatchers_word"
        case _:
            return "unknown_producer"


def audit_objection(record: AuditRecord, signatory: Signatory) -> str:
    """Why this signatory may not write to this chain; empty when it may."""
    worker, _, rest = record.chain_id.partition("/")
    if not rest:
        return "bad_chain_id"
    match worker:
        case "node":
            owns = signatory.is_node(NodeId(rest.partition("/")[0]))
        case "dispatcher":
            owns = signatory.role is KeyRole.DISPATCHER
        case _:
            owns = signatory.role in _CHAIN_WRITERS and signatory.owner == worker
    return "" if owns else "not_its_chain"


def heartbeat_objection(state: NodeState, signatory: Signatory) -> str:
    """Why this signatory may not write this node's heartbeat; empty when it may."""
    return "" if signatory.is_node(state.node_id) else "not_its_node"


def _may_come_from_node(result: ActionResult) -> bool:
    # A stage of a newer version reads as REQUESTED, the lowest: harmless as long as no request comes with it.
    if result.alarm and (result.alarm not in NODE_ALARMS or result.stage is not Stage.CLAIMED):
        return False
    return result.stage not in (Stage.HELD, Stage.DISPATCHED) and result.request is None


def _may_come_from_dispatcher(result: ActionResult) -> bool:
    match result.stage:
        case Stage.CLAIMED:
            return False
        case Stage.ENDED:
            lost = result.outcome is Outcome.UNKNOWN and result.code.endswith((STATE_LOST, NODE_LEFT))
            return not result.alarm and (result.outcome in _BEFORE_SIGNING or lost)
        case _:
            return True

"""Which node a request means: the directory of nodes, made from what each signed with its own pinned key.

Called by ``follow`` (a heartbeat arrived) and ``release`` (a host must become a node). Never believes a heartbeat that
another key than the node's own signed.
"""

from workers.dispatcher.rows import NodeRow, Rows
from workers.domain.errors import CommandRejected
from workers.domain.ids import NodeId, is_node_id
from workers.domain.node_state import NodeState
from workers.domain.trust.keyset import Signatory


def resolve(rows: Rows, host: str) -> NodeRow:
    """The one node a host names, by node id or by host name.

    Raises:
        CommandRejected: ``unknown_node``, ``ambiguous_node``.
    """
    ids = [NodeId(host)] if is_node_id(host) else list(rows.nodes_called(host)) if host else []
    if len(ids) > 1:
        named = ", ".join(sorted(ids)[:5])
        raise CommandRejected(f"{host!r} is the name of {len(ids)} nodes; say which: {named}", code="ambiguous_node")
    node = rows.node(ids[0]) if ids else None
    if node is None:
        raise CommandRejected(f"no node {host!r} was ever heard; `douse nodes` lists them", code="unknown_node")
    return node


def is_its_own(state: NodeState, signatory: Signatory) -> bool:
    """Whether a heartbeat was signed by the node it speaks of, with the key it says it has."""
    return signatory.is_node(state.node_id) and signatory.key_id == state.node_key


def is_newer(state: NodeState, known: NodeRow | None) -> bool:
    """Whether a heartbeat says something newer than what is known: broker and attacker may replay old ones."""
    if known is None:
        return True
    if state.incarnation == known.incarnation:
        return state.record_no > known.record_no
    return state.at_ns > known.at_ns


def learn(rows: Rows, state: NodeState) -> None:
    """Keep a node's newest heartbeat."""
    rows.put_node(
        NodeRow(
            node_id=state.node_id,
            node_key=state.node_key,
            incarnation=state.incarnation,
            zone=state.zone,
            host_names=tuple(dict.fromkeys(state.host_names)),
            record_no=state.record_no,
            at_ns=state.at_ns,
        )
    )

"""Follows what nodes report: results end executions; heartbeats fill the directory of nodes and prove two things.

Called by ``dispatcher`` for every record of ``response.results`` and ``fleet.nodes``. Believes only a node's own pinned
key. From outside, an execution ends here in two ways only: UNKNOWN ``node_state_lost`` and EXPIRED ``undelivered``.
Where neither can be proven, the node is sent the command again, and ends it there (``is_unanswered``).
"""

from dataclasses import replace
from typing import Final

from workers.dispatcher import release, signing
from workers.dispatcher.rows import ExecutionRow, NodeRow
from workers.dispatcher.transaction import KEEP_NS, Transaction
from workers.domain.admission import MOST_AHEAD_NS
from workers.domain.ids import NodeId, is_node_id
from workers.domain.log.record import Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage, Values
from workers.domain.result import EFFECT_LOST, ActionResult
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import Signatory

PROOF_MARGIN_NS: Final = 5_000_000_000
"""A heartbeat proves non-delivery only from this long after the expiry: its time and its offsets are not read at one
instant, and a command taken in between the two must not count as undelivered."""

ASK_EVERY_NS: Final = 60_000_000_000
ASK_MOST: Final = 3
"""A copy can be lost as the first one was; what stays silent after three is for the alarm ``node_silent``."""

ASK_AT_ONCE: Final = 16
"""Commands sent again for one heartbeat: 5 ms of a node's time, so that a node with a long queue is not kept busy with
commands that it has already."""

RECENT_NS: Final = 120_000_000_000
"""How old a heartbeat may be that has commands sent again, twice the clock error that is granted: a dispatcher that was
down reads old heartbeats before the results of the same time."""

UNSIGNED_TOMBSTONE: Final = "unsigned_tombstone"
HOST_NAME_DISPUTED: Final = "host_name_disputed"
"""The two alarms about ``fleet.nodes``."""

NAMES_MOST: Final = 16
"""Host names that one node may have: a node must not take the names of a whole fleet before it is installed."""

EARLIER_MOST: Final = 64
"""Incarnations of a node that are remembered. What is older than all of them is also older than the node's last time.
"""


def take_result(tx: Transaction, record: Record) -> None:
    """One record of ``response.results``.

    Raises:
        MalformedMessage: it does not verify. The projector keeps such records; here they mean nothing.
    """
    if record.value is None or tx.services.tails.is_own(record.value):
        return
    opened = tx.services.verifier.verify(record.value, PayloadType.RESULT, ActionResult)
    result = opened.record
    if result.producer != "node" or not opened.signatory.is_node(result.node_id):
        return
    row = tx.rows.execution(result.execution_id)
    if row is None or row.node_id != result.node_id:
        tx.services.telemetry.count("dispatcher.foreign_results")
        return
    if row.has_final_outcome:
        if result.alarm == EFFECT_LOST and row.effect_holds:
            tx.rows.put_execution(replace(row, effect_holds=False), due_ns=tx.now_ns + KEEP_NS)
    elif result.stage is Stage.CLAIMED and row.stage is Stage.DISPATCHED:
        own_s = result.configuration.get("timeout")  # the node's settings may allow more than was asked
        timeout_s = max(row.timeout_s, own_s) if type(own_s) is int else row.timeout_s
        _keep_open(tx, replace(row, stage=Stage.CLAIMED, timeout_s=timeout_s))
    elif result.stage is Stage.ENDED and result.outcome is not None:
        _end(tx, row, result.outcome, effect_holds=result.effect_holds)


def take_heartbeat(tx: Transaction, record: Record) -> None:
    """One record of ``fleet.nodes``.

    Raises:
        MalformedMessage: it does not verify.
    """
    if record.value is None:
        _report_tombstone(tx, record)
        return
    opened = tx.services.verifier.verify(record.value, PayloadType.NODE_STATE, NodeState)
    state = opened.record
    if not _is_its_own(state, opened.signatory):
        tx.services.telemetry.log("heartbeat_of_another", level="warning", node_id=state.node_id)
        return
    known = tx.rows.node(state.node_id)
    if not _is_newer(state, known):
        return
    _keep_node(tx, state, known)
    tx.clocks.note(state.node_id, state.at_ns, record.timestamp_ns)
    # A node whose clock runs ahead proves nothing about a time that has not come.
    state = replace(state, at_ns=min(state.at_ns, tx.now_ns + MOST_AHEAD_NS))
    left = ASK_AT_ONCE if tx.now_ns - state.at_ns < RECENT_NS else 0
    gathering = {each.execution_id for each in state.gathering}
    for row in tx.rows.open_at(state.node_id, state.incarnation, expired_ns=state.at_ns - PROOF_MARGIN_NS):
        if row.incarnation != state.incarnation:
            message = f"node {row.node_id} came back without the journal that knew this command; its effect is unknown"
            release.release_next(tx, tx.ended(row, Outcome.UNKNOWN, "node_state_lost", message))
        elif row.execution_id in gathering:
            _keep_at_work(tx, row)
        elif _is_there_still(tx, row) and is_undelivered(row, state):
            message = f"expired, and node {state.node_id} signed afterwards that it never took the command in"
            release.release_next(tx, tx.ended(row, Outcome.EXPIRED, "undelivered", message))
        elif left and is_unanswered(row, state):
            _send_again(tx, row)
            left -= 1


def is_undelivered(row: ExecutionRow, state: NodeState) -> bool:
    """Whether a heartbeat proves that a node never took a command in, and never will: it has expired, and every copy of
    it lies at or behind the next offset that the node would read."""
    if row.stage is not Stage.DISPATCHED or not row.log_id or state.at_ns < row.expires_at_ns + PROOF_MARGIN_NS:
        return False
    return any(
        (read.log_id, read.topic, read.partition) == (row.log_id, row.topic, row.partition)
        and read.next_offset <= row.at_least
        for read in state.positions
    )


def is_unanswered(row: ExecutionRow, state: NodeState) -> bool:
    """Whether to send a command's exact bytes once more: by its node's own signed time it has expired, and the node has
    reported no final outcome.

    A heartbeat cannot tell why. The log may have dropped the record before the node read it (then the next offset is
    behind it and the journal has no row), the node may have refused bytes that it could not verify then, or its answer
    was lost. So nothing is concluded here. Sending again is safe, because the node settles each case:

    * its journal has the row: a duplicate, never run again; it repeats its answer, or gives it when it has one;
    * it has no row: it never ran the command. It takes it in now, after its expiry, and answers EXPIRED. (Where its
      clock was turned back in between, it judges by that clock, as it would have judged the first copy: still once.)
    * it has forgotten the row (``admission.MEMORY_NS`` after the expiry): a dead letter, which is no answer, and the
      alarm stands.
    """
    if row.asked >= ASK_MOST or row.outcome or row.stage not in (Stage.DISPATCHED, Stage.CLAIMED):
        return False
    return state.at_ns >= row.expires_at_ns + PROOF_MARGIN_NS + row.asked * ASK_EVERY_NS


def _send_again(tx: Transaction, row: ExecutionRow) -> None:
    sent = tx.rows.sent_to(row.execution_id)
    if sent is None:
        return
    signing.queue(tx, sent)
    # The copy lies behind the tail of its own log; with copies in two logs no single offset proves anything any more.
    log_id = row.log_id if _is_there_still(tx, row) else ""
    asked = replace(row, asked=row.asked + 1, log_id=log_id)
    _keep_open(tx, asked)
    tx.audit("asked_again", row, actor="", detail={"node_id": row.node_id, "times": asked.asked})


def _is_there_still(tx: Transaction, row: ExecutionRow) -> bool:
    """Whether the log its command went to is still the one being written: offsets of another prove nothing."""
    tail = tx.services.tails.of(row.topic, row.partition)
    return tail is not None and tail.position.log_id == row.log_id


def _keep_open(tx: Transaction, row: ExecutionRow) -> None:
    """Keep an execution that has not ended, with the timer of its alarm."""
    tx.rows.put_execution(row, due_ns=row.silence_due_ns(tx.services.silent_after_s))


def _keep_at_work(tx: Transaction, row: ExecutionRow) -> None:
    """Its node reports how far it is: it may take long, and is not silent."""
    patience_ns = (row.timeout_s + tx.services.silent_after_s) * signing.SECOND_NS
    tx.rows.put_execution(row, due_ns=0 if row.alarmed else tx.now_ns + patience_ns)


def _end(tx: Transaction, row: ExecutionRow, outcome: Outcome, *, effect_holds: bool) -> None:
    if not outcome.is_final:
        _keep_open(tx, replace(row, stage=Stage.CLAIMED, outcome=outcome.value))
        return
    after = replace(row, stage=Stage.ENDED, outcome=outcome.value, effect_holds=effect_holds)
    # An effect that holds must stay undoable however long ago it was made.
    tx.rows.put_execution(after, due_ns=0 if effect_holds else tx.now_ns + KEEP_NS)
    _release_subject(tx, after)
    release.release_next(tx, after)


def _release_subject(tx: Transaction, row: ExecutionRow) -> None:
    """After a successful undo: the effect it undid holds no more, and its execution may be forgotten in time."""
    subject = tx.rows.execution(row.undo_of) if row.undo_of else None
    if subject is not None and row.outcome in (Outcome.COMPLETED, Outcome.NO_ACTION):
        tx.rows.put_execution(replace(subject, effect_holds=False), due_ns=tx.now_ns + KEEP_NS)


def _is_its_own(state: NodeState, signatory: Signatory) -> bool:
    """Whether a heartbeat was signed by the node that it is about, with the key that it names."""
    return signatory.is_node(state.node_id) and signatory.key_id == state.node_key


def _report_tombstone(tx: Transaction, record: Record) -> None:
    """A record without a value has no signature, and every node may write one: it retires nobody."""
    key = (record.key or b"").decode("ascii", "replace")[:64]
    known = is_node_id(key) and tx.rows.node(NodeId(key)) is not None
    detail: Values = {"node_id": key, "partition": record.position.partition, "offset": record.offset}
    tx.fleet_alarm(UNSIGNED_TOMBSTONE, key if known else "", detail)


def _is_newer(state: NodeState, known: NodeRow | None) -> bool:
    """Whether a heartbeat is newer than what is known: broker and attacker may replay old ones."""
    if known is None:
        return True
    if state.incarnation == known.incarnation:
        return state.record_no > known.record_no
    return state.incarnation not in known.earlier and state.at_ns > known.at_ns


def _keep_node(tx: Transaction, state: NodeState, known: NodeRow | None) -> None:
    """Keep the newest heartbeat of a node, and report the host names among its own that belong to another node."""
    row = _node_row(state, known, now_ns=tx.now_ns)
    tx.rows.put_node(row)
    if known is not None and not known.disputed and known.host_names == row.host_names:
        return
    holders = {name: tx.rows.holders(name) for name in row.host_names}
    disputed = tuple(name for name, nodes in holders.items() if list(nodes) != [row.node_id])
    if disputed:
        tx.rows.put_node(replace(row, disputed=disputed))
    for name in disputed if known is None else set(disputed) - set(known.disputed):
        detail: Values = {"host_name": name, "node_id": row.node_id, "held_by": ",".join(sorted(holders[name]))}
        tx.fleet_alarm(HOST_NAME_DISPUTED, row.node_id, detail)


def _node_row(state: NodeState, known: NodeRow | None, *, now_ns: int) -> NodeRow:
    # A node whose clock once ran a day ahead must be believed again when its clock is right and its journal is new.
    at_ns = min(state.at_ns, now_ns + MOST_AHEAD_NS)
    earlier = known.earlier if known is not None else ()
    if known is not None and known.incarnation != state.incarnation:
        earlier = (*earlier, known.incarnation)[-EARLIER_MOST:]
    return NodeRow(
        node_id=state.node_id,
        node_key=state.node_key,
        incarnation=state.incarnation,
        zone=state.zone,
        host_names=tuple(dict.fromkeys(state.host_names))[:NAMES_MOST],
        record_no=state.record_no,
        at_ns=max(at_ns, known.at_ns) if known is not None else at_ns,
        earlier=earlier,
    )

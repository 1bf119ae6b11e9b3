"""The queries of the history store, as SQL: what to select, never how to connect.

Called by ``store``. Every page is cut by key (time, id), never by counting rows, so that a page deep in the past costs
what the first one does.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, tuple_

from workers.domain.history.queries import EventQuery, ExecutionQuery, checked_limit, position_of
from workers.domain.history.search import short_container
from workers.domain.outcome import Outcome
from workers.store.history import tables
from workers.store.history.rows import indexed

_PLAIN = ("rule", "actor", "action", "outcome", "stage", "event_id", "caller_id", "undo_of")


def chosen_executions(connection: Connection, query: ExecutionQuery) -> Select[str, int]:
    """Ids and times of a page of executions and of one more, newest first. Raises ``ValueError``."""
    columns = tables.executions.c
    wanted = [columns[name] == indexed(getattr(query, name)) for name in _PLAIN if getattr(query, name)]
    wanted += _context(connection, query)
    if query.actions is not None:
        wanted.append(columns.action.in_(query.actions))
    if query.outcomes:
        wanted.append(columns.outcome.in_(query.outcomes))
    if query.stages:
        wanted.append(columns.stage.in_(query.stages))
    if query.from_ns:
        wanted.append(columns.requested_at_ns >= query.from_ns)
    if query.to_ns:
        wanted.append(columns.requested_at_ns < query.to_ns)
    if query.cursor:
        wanted.append(tuple_(columns.requested_at_ns, columns.execution_id) < tuple_(*position_of(query.cursor)))
    return (
        select(columns.execution_id, columns.requested_at_ns)
        .where(*wanted)
        .order_by(columns.requested_at_ns.desc(), columns.execution_id.desc())
        .limit(checked_limit(query.limit) + 1)
        .offset(query.offset)
    )


def chosen_events(connection: Connection, query: EventQuery) -> Select[str, int, bytes]:
    """A page of events and one more, newest first; of an id that arrived twice the first. Raises ``ValueError``."""
    columns = tables.events.c
    wanted = [_first_of_its_id()]
    if query.host:
        names = {query.host, *_names_of(connection, query.host)}
        wanted.append(columns.host.in_([indexed(name) for name in sorted(names)]))
    if query.rule:
        wanted.append(columns.rule == indexed(query.rule))
    if query.container:
        wanted.append(columns.container == short_container(query.container))
    if query.workload:
        wanted.append(columns.workload == indexed(query.workload))
    if query.cluster:
        wanted.append(columns.cluster == indexed(query.cluster))
    if query.from_ns:
        wanted.append(columns.occurred_at_ns >= query.from_ns)
    if query.to_ns:
        wanted.append(columns.occurred_at_ns < query.to_ns)
    if query.cursor:
        wanted.append(tuple_(columns.occurred_at_ns, columns.event_id) < tuple_(*position_of(query.cursor)))
    return (
        select(columns.event_id, columns.occurred_at_ns, columns.value)
        .where(*wanted)
        .order_by(columns.occurred_at_ns.desc(), columns.event_id.desc())
        .limit(checked_limit(query.limit) + 1)
    )


def chosen_event(event_id: str) -> Select[bytes]:
    """The first content of an event id that arrived."""
    columns = tables.events.c
    return select(columns.value).where(columns.event_id == indexed(event_id)).order_by(columns.arrival).limit(1)


def led_to(event_ids: Iterable[str]) -> Select[str, str]:
    """(event id, execution id) of the executions that these events led to."""
    columns = tables.executions.c
    wanted = [indexed(event_id) for event_id in event_ids]
    return (
        select(columns.event_id, columns.execution_id)
        .where(columns.event_id.in_(wanted))
        .order_by(columns.requested_at_ns, columns.execution_id)
    )


def undos_of(execution_ids: Iterable[str]) -> Select[Any]:
    """The rows of the executions that are to undo these."""
    wanted = [indexed(each) for each in execution_ids]
    return select(tables.executions).where(tables.executions.c.undo_of.in_(wanted))


def present_incarnations(node_ids: Iterable[str]) -> Select[str, str]:
    """(node id, incarnation) that reported last, of these nodes."""
    columns, other = tables.nodes.c, tables.nodes.alias("other")
    later = exists().where(
        other.c.node_id == columns.node_id,
        tuple_(other.c.at_ns, other.c.incarnation) > tuple_(columns.at_ns, columns.incarnation),
    )
    wanted = [indexed(each) for each in node_ids]
    return select(columns.node_id, columns.incarnation).where(columns.node_id.in_(wanted), ~later)


def holding() -> Select[str]:
    """Executions whose effect holds and that no completed undo lifted, newest first."""
    columns, undo = tables.executions.c, tables.executions.alias("undo")
    lifted = exists().where(
        undo.c.undo_of == columns.execution_id,
        undo.c.outcome == Outcome.COMPLETED.value,
        undo.c.node_id == columns.node_id,
    )
    return (
        select(columns.execution_id)
        .where(columns.effect_holds.is_(True), ~lifted)
        .order_by(columns.requested_at_ns.desc(), columns.execution_id.desc())
    )


def chosen_audit(execution_id: str, chain_id: str, limit: int) -> Select[bytes, bool, bool]:
    """(payload, signature verified, the record before it is there and has the hash it names), newest first."""
    columns = tables.audit.c
    # The record before may have been forgotten; then its hash is still known.
    linked = or_(
        *(
            exists().where(
                before.c.chain_id == columns.chain_id,
                before.c.record_no == columns.record_no - 1,
                before.c.hash == columns.previous,
            )
            for before in (tables.audit.alias("before"), tables.audit_anchors.alias("anchor"))
        )
    )
    wanted: list[ColumnElement[bool]] = []
    if execution_id:
        wanted.append(columns.execution_id == indexed(execution_id))
    if chain_id:
        wanted.append(columns.chain_id == indexed(chain_id))
    return (
        select(columns.payload, columns.verified, linked.label("linked"))
        .where(*wanted)
        .order_by(columns.at_ns.desc(), columns.chain_id.desc(), columns.record_no.desc())
        .limit(checked_limit(limit))
    )


def newest_heartbeats(node_id: str = "") -> Select[bytes, bool, int, str]:
    """(state, verified, folded at, digest) of the incarnation of every node that reported last, by node id; or of that
    node alone."""
    columns, other = tables.nodes.c, tables.nodes.alias("other")
    later = exists().where(
        other.c.node_id == columns.node_id,
        tuple_(other.c.at_ns, other.c.incarnation) > tuple_(columns.at_ns, columns.incarnation),
    )
    return (
        select(columns.value, columns.verified, columns.folded_at_ns, columns.digest)
        .where(~later, *([columns.node_id == node_id] if node_id else []))
        .order_by(columns.node_id)
    )


def counted(connection: Connection) -> tuple[int, int, int, int, int]:
    """How many executions, unverified records, conflicts and gaps; and the time of the newest heartbeat."""
    executions = tables.executions
    rows = select(func.count())
    return (
        connection.execute(rows.select_from(executions)).scalar_one(),
        connection.execute(rows.select_from(tables.unverified)).scalar_one(),
        connection.execute(rows.select_from(executions).where(executions.c.conflict.is_(True))).scalar_one(),
        connection.execute(rows.select_from(tables.gaps)).scalar_one(),
        connection.execute(select(func.coalesce(func.max(tables.nodes.c.at_ns), 0))).scalar_one(),
    )


def _context(connection: Connection, query: ExecutionQuery) -> list[ColumnElement[bool]]:
    """Host, container, workload and cluster: of the execution itself, of its node, or of the event that led to it."""
    columns, events = tables.executions.c, tables.events.c
    wanted: list[ColumnElement[bool]] = []
    if query.host:
        ids = [indexed(query.host), *_ids_of(connection, query.host)]
        wanted.append(or_(columns.node_id.in_(ids), columns.host == indexed(query.host)))
    if query.container:
        container = short_container(query.container)
        caused = select(events.event_id).where(events.container == container)
        wanted.append(or_(columns.container == container, columns.event_id.in_(caused)))
    if query.workload:
        caused = select(events.event_id).where(events.workload == indexed(query.workload))
        wanted.append(columns.event_id.in_(caused))
    if query.cluster:
        cluster = indexed(query.cluster)
        caused = select(events.event_id).where(events.cluster == cluster)
        inside = select(tables.nodes.c.node_id).where(tables.nodes.c.cluster == cluster)
        wanted.append(or_(columns.node_id.in_(inside), columns.event_id.in_(caused)))
    return wanted


def _ids_of(connection: Connection, name: str) -> list[str]:
    columns = tables.node_names.c
    return list(connection.execute(select(columns.node_id).where(columns.name == indexed(name))).scalars())


def _names_of(connection: Connection, host: str) -> list[str]:
    """Every name and id of the node that is called so: events name hosts as their detector does."""
    columns = tables.node_names.c
    ids = [indexed(host), *_ids_of(connection, host)]
    return ids + list(connection.execute(select(columns.name).where(columns.node_id.in_(ids))).scalars())


def _first_of_its_id() -> ColumnElement[bool]:
    columns, earlier = tables.events.c, tables.events.alias("earlier")
    return ~exists().where(and_(earlier.c.event_id == columns.event_id, earlier.c.arrival < columns.arrival))

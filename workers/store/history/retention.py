"""Retention in SQL: which rows may go, and their going, a bounded number at a time.

Called by ``transaction``. Whatever is still open keeps itself, its undo, its audit, its event and its node. An
execution goes once it has ended for good and its newest step is older than the cutoff, if its effect no longer holds or
an undo of it that is old too took effect; an undo goes after what it undid, which would seem to hold again without it.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    not_,
    or_,
    select,
)

from workers.domain.history.retention import Cutoffs, Forgotten
from workers.domain.outcome import Outcome, Stage
from workers.store.history import tables
from workers.store.history.dialect import insert_new, insert_or_replace

_E: Final = tables.executions.alias("e")
_CHUNK: Final = 1000
"""Values in one IN list."""


def cutoffs_of(connection: Connection) -> Cutoffs:
    """How far retention has come."""
    found = {row.kind: row.before_ns for row in connection.execute(select(tables.forgotten))}
    return Cutoffs(**found)


def set_cutoffs(connection: Connection, cutoffs: Cutoffs) -> None:
    """Record how far retention has come."""
    kinds = ("events", "executions", "audit", "nodes")
    values = [{"kind": kind, "before_ns": getattr(cutoffs, kind)} for kind in kinds]
    connection.execute(insert_or_replace(connection, tables.forgotten), values)


def forget(connection: Connection, cutoffs: Cutoffs, limit: int) -> Forgotten:
    """At most ``limit`` rows of each kind. Executions go first: they keep the others."""
    return Forgotten(
        executions=_executions(connection, cutoffs.executions, limit),
        events=_events(connection, cutoffs.events, limit),
        audit=_audit(connection, cutoffs.audit, limit),
        nodes=_nodes(connection, cutoffs.nodes, limit),
    )


def _executions(connection: Connection, before_ns: int, limit: int) -> int:
    undone, lift = tables.executions.alias("undone"), tables.executions.alias("lift")
    lifted_long_ago = exists().where(
        lift.c.undo_of == _E.c.execution_id,
        lift.c.outcome == Outcome.COMPLETED.value,
        lift.c.node_id == _E.c.node_id,
        _old(lift, before_ns),
    )
    chosen = (
        select(_E.c.execution_id)
        .where(
            _old(_E, before_ns),
            or_(not_(_E.c.effect_holds), lifted_long_ago),
            # An undo goes after what it undid, or that would seem to hold again.
            not_(exists().where(undone.c.execution_id == _E.c.undo_of)),
        )
        .order_by(_E.c.requested_at_ns, _E.c.execution_id)
        .limit(limit)
    )
    ids = connection.execute(chosen).scalars().all()
    for table in (tables.steps, tables.executions):
        _delete(connection, table, table.c.execution_id, ids)
    return len(ids)


def _events(connection: Connection, before_ns: int, limit: int) -> int:
    columns = tables.events.c
    chosen = (
        select(columns.arrival)
        .where(columns.occurred_at_ns < before_ns, not_(exists().where(_E.c.event_id == columns.event_id)))
        .order_by(columns.occurred_at_ns)
        .limit(limit)
    )
    return _delete(connection, tables.events, columns.arrival, connection.execute(chosen).scalars().all())


def _audit(connection: Connection, before_ns: int, limit: int) -> int:
    columns = tables.audit.c
    still_open = exists().where(
        _E.c.execution_id == columns.execution_id,
        or_(not_(_settled(_E)), and_(_E.c.effect_holds, not_(_lifted(_E)))),
    )
    chosen = (
        select(columns.chain_id, columns.record_no, columns.digest, columns.hash)
        .where(columns.at_ns < before_ns, not_(still_open))
        .order_by(columns.at_ns)
        .limit(limit)
    )
    gone = connection.execute(chosen).all()
    for chunk in _chunks(gone):
        _delete_each(connection, (columns.chain_id, columns.record_no, columns.digest), [row[:3] for row in chunk])
        connection.execute(
            insert_new(connection, tables.audit_anchors),
            [{"chain_id": row.chain_id, "record_no": row.record_no, "hash": row.hash} for row in chunk],
        )
    if gone:
        _drop_anchors(connection, {row.chain_id for row in gone})
    for table in (tables.unverified, tables.gaps):
        connection.execute(delete(table).where(table.c.at_ns < before_ns))
    return len(gone)


def _drop_anchors(connection: Connection, chains: set[str]) -> None:
    """All but those that a record in the store, or the chain's next one, names as the one before it."""
    anchors, later, audit = tables.audit_anchors.c, tables.audit_anchors.alias("later"), tables.audit.c
    followed = exists().where(audit.chain_id == anchors.chain_id, audit.record_no == anchors.record_no + 1)
    is_last = and_(
        not_(exists().where(audit.chain_id == anchors.chain_id, audit.record_no > anchors.record_no)),
        not_(exists().where(later.c.chain_id == anchors.chain_id, later.c.record_no > anchors.record_no)),
    )
    for chunk in _chunks(sorted(chains)):
        connection.execute(
            delete(tables.audit_anchors).where(anchors.chain_id.in_(chunk), not_(followed), not_(is_last))
        )


def _nodes(connection: Connection, before_ns: int, limit: int) -> int:
    columns, names = tables.nodes.c, tables.node_names.c
    chosen = (
        select(columns.node_id, columns.incarnation)
        .where(columns.at_ns < before_ns, not_(exists().where(_E.c.node_id == columns.node_id)))
        .order_by(columns.node_id, columns.incarnation)
        .limit(limit)
    )
    gone = connection.execute(chosen).all()
    if gone:
        _delete_each(connection, (columns.node_id, columns.incarnation), gone)
        nameless = not_(exists().where(columns.node_id == names.node_id))
        connection.execute(delete(tables.node_names).where(nameless))
    return len(gone)


def _settled(row: FromClause) -> ColumnElement[bool]:
    return and_(row.c.stage == Stage.ENDED.value, row.c.outcome.not_in(("", Outcome.UNKNOWN.value)))


def _old(row: FromClause, before_ns: int) -> ColumnElement[bool]:
    over = or_(_settled(row), _is_nobodys(row))
    return and_(over, row.c.updated_at_ns < before_ns, row.c.requested_at_ns < before_ns)


def _is_nobodys(row: FromClause) -> ColumnElement[bool]:
    """Only nodes speak of it, and no dispatcher: nothing will ever end it."""
    return and_(row.c.conflict.is_(True), row.c.node_id == "", row.c.actor == "", row.c.stage == Stage.REQUESTED.value)


def _lifted(row: FromClause) -> ColumnElement[bool]:
    lift = tables.executions.alias("lift")
    return exists().where(
        lift.c.undo_of == row.c.execution_id,
        lift.c.outcome == Outcome.COMPLETED.value,
        lift.c.node_id == row.c.node_id,
    )


def _delete(connection: Connection, table: Table, key: ColumnElement[Any], values: Sequence[Any]) -> int:
    for chunk in _chunks(values):
        connection.execute(delete(table).where(key.in_(chunk)))
    return len(values)


def _delete_each(connection: Connection, key: Sequence[Column[Any]], values: Sequence[Sequence[Any]]) -> None:
    """By a key of several columns. One by one: SQLite reads the whole table to find a list of them."""
    statement = delete(key[0].table).where(*(column == bindparam(f"wanted_{column.name}") for column in key))
    connection.execute(
        statement,
        [{f"wanted_{column.name}": value for column, value in zip(key, row, strict=True)} for row in values],
    )


def _chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]

"""The tables of the history store, as this version knows them. ``migrations`` makes them; a test holds the two equal.

Texts that come from outside are cut to ``INDEXED`` characters where they are searched by; the whole record is in
``value``. Times are nanoseconds since the epoch.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, text
from sqlalchemy.dialects.postgresql import VARCHAR
from sqlalchemy.types import TypeEngine

INDEXED: Final = 512
"""Longest text that is searched by: PostgreSQL's B-tree takes 2,704 bytes, four a character at worst."""

metadata = MetaData()

_long: Final[TypeEngine[int]] = BigInteger()
_number: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")
# Ordered by their bytes in every database, as Python orders them: keyset pages and the comparison of stores rely on it.
_text: Final[TypeEngine[str]] = String(INDEXED).with_variant(VARCHAR(INDEXED, collation="C"), "postgresql")
_hash: Final[TypeEngine[str]] = String(64).with_variant(VARCHAR(64, collation="C"), "postgresql")


def _place() -> tuple[Column[str], Column[str], Column[int]]:
    return (
        Column("log_id", _text, primary_key=True),
        Column("topic", _text, primary_key=True),
        Column("partition", Integer, primary_key=True, autoincrement=False),
    )


offsets = Table(
    "offsets",
    metadata,
    *_place(),
    Column("next_offset", _long, nullable=False),
    Column("born", _long, nullable=False, server_default="0"),
)
"""``born`` counts the logs in the order in which they were first read: of two of one topic the later is today's."""

steps = Table(
    "steps",
    metadata,
    Column("execution_id", _text, primary_key=True),
    Column("producer", _text, primary_key=True),
    Column("attempt", _long, primary_key=True, autoincrement=False),
    Column("seq", _long, primary_key=True, autoincrement=False),
    Column("digest", _hash, primary_key=True),
    Column("sender", _text, nullable=False),
    Column("record_no", _long, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Index("steps_by_record", "sender", "record_no"),
)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", _text, primary_key=True),
    Column("requested_at_ns", _long, nullable=False),
    *(
        Column(name, _text, nullable=False)
        for name in ("node_id", "host", "container", "rule", "actor", "action", "outcome", "stage", "code")
    ),
    *(Column(name, _text, nullable=False) for name in ("event_id", "caller_id", "undo_of")),
    Column("effect_holds", Boolean, nullable=False),
    Column("conflict", Boolean, nullable=False),
    *(
        Column(name, _long, nullable=False)
        for name in ("detected_at_ns", "claimed_at_ns", "ended_at_ns", "updated_at_ns")
    ),
    Index("executions_by_time", "requested_at_ns", "execution_id"),
    Index("executions_by_node", "node_id", "requested_at_ns", "execution_id"),
    Index("executions_by_container", "container", "requested_at_ns", "execution_id"),
    Index("executions_by_rule", "rule", "requested_at_ns", "execution_id"),
    Index("executions_by_actor", "actor", "requested_at_ns", "execution_id"),
    Index("executions_by_event", "event_id"),
    Index("executions_by_caller", "caller_id"),
    Index("executions_by_undone", "undo_of"),
)
Index(
    "executions_holding",
    executions.c.execution_id,
    sqlite_where=text("effect_holds = 1"),
    postgresql_where=text("effect_holds"),
)

events = Table(
    "events",
    metadata,
    Column("arrival", _number, primary_key=True, autoincrement=True),
    Column("event_id", _text, nullable=False),
    Column("digest", _hash, nullable=False),
    Column("occurred_at_ns", _long, nullable=False),
    *(Column(name, _text, nullable=False) for name in ("host", "rule", "container", "workload", "cluster")),
    Column("value", LargeBinary, nullable=False),
    Index("events_once", "event_id", "digest", unique=True),
    Index("events_by_time", "occurred_at_ns", "event_id"),
    Index("events_by_host", "host", "occurred_at_ns"),
    Index("events_by_rule", "rule", "occurred_at_ns"),
    Index("events_by_container", "container", "occurred_at_ns"),
    Index("events_by_workload", "workload", "occurred_at_ns"),
    Index("events_by_cluster", "cluster", "occurred_at_ns"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", _text, primary_key=True),
    Column("incarnation", _text, primary_key=True),
    Column("record_no", _long, nullable=False),
    Column("digest", _hash, nullable=False),
    Column("at_ns", _long, nullable=False),
    Column("folded_at_ns", _long, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("cluster", _text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Index("nodes_by_cluster", "cluster"),
)

node_names = Table(
    "node_names",
    metadata,
    Column("name", _text, primary_key=True),
    Column("node_id", _text, primary_key=True),
)

audit = Table(
    "audit",
    metadata,
    Column("chain_id", _text, primary_key=True),
    Column("record_no", _long, primary_key=True, autoincrement=False),
    Column("digest", _hash, primary_key=True),
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("at_ns", _long, nullable=False),
    Column("execution_id", _text, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Index("audit_by_execution", "execution_id"),
    Index("audit_by_time", "at_ns"),
)

audit_anchors = Table(
    "audit_anchors",
    metadata,
    Column("chain_id", _text, primary_key=True),
    Column("record_no", _long, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, primary_key=True),
)
"""Of audit records that retention took: what the next record of the chain must name as the hash before it."""

forgotten = Table(
    "forgotten",
    metadata,
    Column("kind", _hash, primary_key=True),
    Column("before_ns", _long, nullable=False),
)
"""How far retention has come with each kind of row; it never goes back."""

senders = Table(
    "senders",
    metadata,
    Column("name", _text, primary_key=True),
    Column("seen", String, nullable=False),
)

unverified = Table(
    "unverified",
    metadata,
    *_place(),
    Column("at_offset", _long, primary_key=True, autoincrement=False),
    Column("reason", _text, nullable=False),
    Column("at_ns", _long, nullable=False),
    Column("size", _long, nullable=False),
    Column("sha256", _hash, nullable=False),
    Column("value", LargeBinary, nullable=False),
)

gaps = Table(
    "gaps",
    metadata,
    *_place(),
    Column("expected", _long, primary_key=True, autoincrement=False),
    Column("resumed_at", _long, primary_key=True, autoincrement=False),
    Column("reason", _text, nullable=False),
    Column("at_ns", _long, nullable=False),
)

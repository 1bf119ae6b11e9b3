"""The first schema: offsets, steps, executions, events, nodes, audit, senders, what does not verify, and gaps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import VARCHAR

revision = "v0001"
down_revision = None

TEXT = sa.String(length=512).with_variant(VARCHAR(512, collation="C"), "postgresql")
HASH = sa.String(length=64).with_variant(VARCHAR(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit",
        sa.Column("chain_id", TEXT, nullable=False),
        sa.Column("record_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "record_no", "digest"),
    )
    op.create_index("audit_by_execution", "audit", ["execution_id"], unique=False)
    op.create_index("audit_by_time", "audit", ["at_ns"], unique=False)
    op.create_table(
        "events",
        sa.Column("arrival", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("occurred_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("container", TEXT, nullable=False),
        sa.Column("workload", TEXT, nullable=False),
        sa.Column("cluster", TEXT, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("arrival"),
    )
    op.create_index("events_by_cluster", "events", ["cluster", "occurred_at_ns"], unique=False)
    op.create_index("events_by_container", "events", ["container", "occurred_at_ns"], unique=False)
    op.create_index("events_by_host", "events", ["host", "occurred_at_ns"], unique=False)
    op.create_index("events_by_rule", "events", ["rule", "occurred_at_ns"], unique=False)
    op.create_index("events_by_time", "events", ["occurred_at_ns", "event_id"], unique=False)
    op.create_index("events_by_workload", "events", ["workload", "occurred_at_ns"], unique=False)
    op.create_index("events_once", "events", ["event_id", "digest"], unique=True)
    op.create_table(
        "executions",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("requested_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("node_id", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("container", TEXT, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("caller_id", TEXT, nullable=False),
        sa.Column("undo_of", TEXT, nullable=False),
        sa.Column("effect_holds", sa.Boolean(), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False),
        sa.Column("detected_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("executions_by_actor", "executions", ["actor", "requested_at_ns", "execution_id"], unique=False)
    op.create_index("executions_by_caller", "executions", ["caller_id"], unique=False)
    op.create_index(
        "executions_by_container", "executions", ["container", "requested_at_ns", "execution_id"], unique=False
    )
    op.create_index("executions_by_event", "executions", ["event_id"], unique=False)
    op.create_index("executions_by_node", "executions", ["node_id", "requested_at_ns", "execution_id"], unique=False)
    op.create_index("executions_by_rule", "executions", ["rule", "requested_at_ns", "execution_id"], unique=False)
    op.create_index("executions_by_time", "executions", ["requested_at_ns", "execution_id"], unique=False)
    op.create_index("executions_by_undone", "executions", ["undo_of"], unique=False)
    op.create_index(
        "executions_holding",
        "executions",
        ["execution_id"],
        unique=False,
        sqlite_where=sa.text("effect_holds = 1"),
        postgresql_where=sa.text("effect_holds"),
    )
    op.create_table(
        "gaps",
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("expected", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resumed_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "topic", "partition", "expected", "resumed_at"),
    )
    op.create_table(
        "node_names",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("node_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", "node_id"),
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", TEXT, nullable=False),
        sa.Column("incarnation", TEXT, nullable=False),
        sa.Column("record_no", sa.BigInteger(), nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("folded_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("cluster", TEXT, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "incarnation"),
    )
    op.create_index("nodes_by_cluster", "nodes", ["cluster"], unique=False)
    op.create_table(
        "offsets",
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "topic", "partition"),
    )
    op.create_table(
        "senders",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("seen", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "steps",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("producer", TEXT, nullable=False),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("sender", TEXT, nullable=False),
        sa.Column("record_no", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "producer", "attempt", "seq", "digest"),
    )
    op.create_index("steps_by_record", "steps", ["sender", "record_no"], unique=False)
    op.create_table(
        "unverified",
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "topic", "partition", "at_offset"),
    )

"""What retention needs: how far it has come, where cut chains of audit go on; and which log of a topic is today's."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import VARCHAR

revision = "v0002"
down_revision = "v0001"

TEXT = sa.String(length=512).with_variant(VARCHAR(512, collation="C"), "postgresql")
HASH = sa.String(length=64).with_variant(VARCHAR(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Add them."""
    op.add_column("offsets", sa.Column("born", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "audit_anchors",
        sa.Column("chain_id", TEXT, nullable=False),
        sa.Column("record_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "record_no", "hash"),
    )
    op.create_table(
        "forgotten",
        sa.Column("kind", HASH, nullable=False),
        sa.Column("before_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind"),
    )

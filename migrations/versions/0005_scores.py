"""What scorers think of stored pairs, and which response is known to be the better one."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create both tables."""
    key = sa.LargeBinary(32)
    op.create_table(
        "score",
        sa.Column("scorer", sa.Text, nullable=False),
        sa.Column("pair_key", key, sa.ForeignKey("pair.key", name="fk_score_pair_key"), nullable=False),
        sa.Column("logit", sa.Double, nullable=False),
        sa.Column("uncertainty", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scorer", "pair_key", name="pk_score"),
    )
    op.create_table(
        "label",
        sa.Column("pair_key", key, sa.ForeignKey("pair.key", name="fk_label_pair_key"), nullable=False),
        sa.Column("preferred", sa.Integer, nullable=False),
        sa.Column("category", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("pair_key", name="pk_label"),
    )

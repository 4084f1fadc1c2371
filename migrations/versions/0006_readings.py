"""Readings of replies that another parser, or other rules, have superseded."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table."""
    key = sa.LargeBinary(32)
    op.create_table(
        "reading",
        sa.Column("call_key", key, sa.ForeignKey("call.key", name="fk_reading_call_key"), nullable=False),
        sa.Column("replaced_at", sa.Double, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("preferred", sa.Integer),
        sa.Column("strong", sa.Boolean, nullable=False),
        sa.Column("parser_version", sa.Integer, nullable=False),
        sa.Column("template", key),
        sa.Column("next_template", key),
        sa.PrimaryKeyConstraint("call_key", "replaced_at", name="pk_reading"),
    )

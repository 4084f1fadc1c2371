"""What a run's pacer has learnt."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table; runs that are there begin to learn with their next step."""
    op.create_table(
        "pacing",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.id", name="fk_pacing_run_id"), nullable=False, autoincrement=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_pacing"),
    )

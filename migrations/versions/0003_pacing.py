"""What a run's pacer has learnt."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Give every run a place for it; runs that are there begin to learn with their next step."""
    op.add_column("run", sa.Column("pacing", sa.JSON))

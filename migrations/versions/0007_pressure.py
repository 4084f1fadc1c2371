"""What judges turned away in each step, and how much less they were asked at a time for that."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; of steps that have ended it is not known."""
    op.add_column("step", sa.Column("pressure", sa.JSON))

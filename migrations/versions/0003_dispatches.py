"""When questions were sent, and to whom: what rate limits are remembered by after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what a reservation tells about its attempts, and an index by the time it was made."""
    op.add_column("reservation", sa.Column("judge", sa.LargeBinary(32), nullable=True))
    op.add_column("reservation", sa.Column("sends", sa.Integer, nullable=False, server_default="0"))
    op.add_column("reservation", sa.Column("sent_at", sa.Double, nullable=True))
    op.create_index("ix_reservation_created_at", "reservation", ["created_at"])

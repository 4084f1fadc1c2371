"""${message}."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Describe in NOTES.md what this changes for somebody with a large database."""
    ${upgrades if upgrades else "raise NotImplementedError"}

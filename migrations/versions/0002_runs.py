"""What was decided and spent: runs, steps, decisions, reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.LargeBinary(32)


def upgrade() -> None:
    """Create the tables behind a run."""
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        *_amounts("spent_"),
        *_amounts("reserved_"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("name", name="uq_run_name"),
    )
    _create_step()
    _create_decision()
    op.create_table(
        "reservation",
        _run_id("reservation"),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("call_key", KEY, nullable=False),
        *_amounts(""),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_reservation"),
    )


def _create_step() -> None:
    op.create_table(
        "step",
        sa.Column("id", sa.Integer, nullable=False),
        _run_id("step"),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("pairs", sa.Integer, nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("sources", sa.JSON, nullable=False),
        sa.Column("statuses", sa.JSON, nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        *_amounts("spent_"),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("agreement", sa.Double),
        sa.Column("latency_s", sa.JSON, nullable=False),
        sa.Column("remaining", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_step"),
    )
    op.create_index("ix_step_run_id_step", "step", ["run_id", "step"])


def _create_decision() -> None:
    op.create_table(
        "decision",
        _run_id("decision"),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("pair_key", KEY, nullable=False),
        sa.Column("asked", sa.Boolean, nullable=False),
        sa.Column("logit", sa.Double, nullable=False),
        sa.Column("uncertainty", sa.Double),
        sa.Column("acquisition", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("audit", sa.Boolean, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step", "pair_key", name="pk_decision"),
    )


def _run_id(table: str) -> sa.Column[int]:
    return sa.Column("run_id", sa.Integer, sa.ForeignKey("run.id", name=f"fk_{table}_run_id"), nullable=False, autoincrement=False)


def _amounts(prefix: str) -> tuple[sa.Column[int], sa.Column[int], sa.Column[float]]:
    return (
        sa.Column(f"{prefix}requests", sa.BigInteger, nullable=False),
        sa.Column(f"{prefix}tokens", sa.BigInteger, nullable=False),
        sa.Column(f"{prefix}usd", sa.Double, nullable=False),
    )

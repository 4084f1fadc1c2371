"""Replies that were paid for: texts, pairs, judges, calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.LargeBinary(32)


def upgrade() -> None:
    """Create the tables behind a verdict."""
    op.create_table(
        "text",
        sa.Column("hash", KEY, nullable=False),
        sa.Column("conversational", sa.Boolean, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_text"),
    )
    op.create_table(
        "pair",
        sa.Column("key", KEY, nullable=False),
        *(sa.Column(name, KEY, sa.ForeignKey("text.hash", name=f"fk_pair_{name}"), nullable=False) for name in ("prompt", "low", "high")),
        sa.PrimaryKeyConstraint("key", name="pk_pair"),
    )
    op.create_table(
        "judge",
        sa.Column("fingerprint", KEY, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_judge"),
    )
    _create_call()


def _create_call() -> None:
    op.create_table(
        "call",
        sa.Column("key", KEY, nullable=False),
        sa.Column("pair_key", KEY, sa.ForeignKey("pair.key", name="fk_call_pair_key"), nullable=False),
        sa.Column("judge", KEY, sa.ForeignKey("judge.fingerprint", name="fk_call_judge"), nullable=False),
        sa.Column("canonical", sa.Boolean, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("refusal", sa.Text),
        sa.Column("finish_reason", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("preferred", sa.Integer),
        sa.Column("strong", sa.Boolean, nullable=False),
        sa.Column("parser_version", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("usd", sa.Double, nullable=False),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_call"),
    )

"""The tables of the verdict database, for SQLite and PostgreSQL alike.

Keys are 32-byte blobs (`judgeflow.keys`), tokens whole numbers, money US dollars, durations seconds, moments Unix time in seconds.
What a migration makes and what stands here are compared by a test.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from judgeflow.keys import KEY_BYTES
from judgeflow.store.texts import AnyText

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every revision this version of judgeflow knows, newest last."""

VERSION_TABLE = "judgeflow_schema"

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
metadata = MetaData(naming_convention=NAMES)


def _key() -> LargeBinary:
    return LargeBinary(KEY_BYTES)


# Each prompt or response body once, by its hash; a conversation is kept as the canonical JSON of its messages.
text = Table(
    "text",
    metadata,
    Column("hash", _key(), primary_key=True),
    Column("conversational", Boolean, nullable=False),
    Column("body", AnyText, nullable=False),
)

# Two responses to one prompt in canonical order: `low` has the smaller hash.
pair = Table(
    "pair",
    metadata,
    Column("key", _key(), primary_key=True),
    Column("prompt", _key(), ForeignKey(text.c.hash), nullable=False),
    Column("low", _key(), ForeignKey(text.c.hash), nullable=False),
    Column("high", _key(), ForeignKey(text.c.hash), nullable=False),
)

judge = Table(
    "judge",
    metadata,
    Column("fingerprint", _key(), primary_key=True),
    Column("id", AnyText, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)

# One row per paid reply.  `canonical`: the pair was shown in canonical order; `preferred` is in the order shown.
call = Table(
    "call",
    metadata,
    Column("key", _key(), primary_key=True),
    Column("pair_key", _key(), ForeignKey(pair.c.key), nullable=False),
    Column("judge", _key(), ForeignKey(judge.c.fingerprint), nullable=False),
    Column("canonical", Boolean, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("reasoning", AnyText, nullable=False),
    Column("refusal", AnyText),
    Column("finish_reason", AnyText),
    Column("status", Text, nullable=False),
    Column("preferred", Integer),
    Column("strong", Boolean, nullable=False),
    Column("parser_version", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("usd", Double, nullable=False),
    Column("latency_s", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("request_id", AnyText),
    Column("created_at", Double, nullable=False),
)

# Readings that `judgeflow db reparse` has superseded.  The templates are hashes: by whose rules this reading was made, and the one that
# took its place; null where the judge names none.
reading = Table(
    "reading",
    metadata,
    Column("call_key", _key(), ForeignKey(call.c.key), primary_key=True),
    Column("replaced_at", Double, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("preferred", Integer),
    Column("strong", Boolean, nullable=False),
    Column("parser_version", Integer, nullable=False),
    Column("template", _key()),
    Column("next_template", _key()),
)

# The counters equal the sums over the run's reservations; `judgeflow db check` proves it.
run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", AnyText, nullable=False),
    Column("config", JSON, nullable=False),
    Column("spent_requests", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("spent_usd", Double, nullable=False),
    Column("reserved_requests", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("reserved_usd", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("name"),
)

# What a run's pacer has learnt: a few kilobytes, renewed with every plan.  The run's own row is written far more often.
pacing = Table(
    "pacing",
    metadata,
    Column("run_id", Integer, ForeignKey(run.c.id), primary_key=True, autoincrement=False),
    Column("state", JSON, nullable=False),
)

# One row each time a step ends; a step that was interrupted and routed again has several.  `pressure` is null where nobody noted it.
step = Table(
    "step",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey(run.c.id), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("pairs", Integer, nullable=False),
    Column("threshold", Double),
    Column("sources", JSON, nullable=False),
    Column("statuses", JSON, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("spent_requests", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("spent_usd", Double, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("agreement", Double),
    Column("latency_s", JSON, nullable=False),
    Column("remaining", JSON, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("pressure", JSON(none_as_null=True)),
    Index("ix_step_run_id_step", "run_id", "step"),
)

# `pair_key` refers to no row of `pair`: texts of pairs that were never asked about are not kept.
decision = Table(
    "decision",
    metadata,
    Column("run_id", Integer, ForeignKey(run.c.id), primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("pair_key", _key(), primary_key=True),
    Column("asked", Boolean, nullable=False),
    Column("logit", Double, nullable=False),
    Column("uncertainty", Double),
    Column("acquisition", Double),
    Column("threshold", Double),
    Column("propensity", Double, nullable=False),
    Column("audit", Boolean, nullable=False),
    Column("source", Text),
    Column("status", Text, nullable=False),
)

# The amounts are what the row counts for: the worst case while open or charged, the actual cost once settled, nothing if released.
# One row of state `compacted` may stand for closed ones that were deleted, with the sum of what they counted for.
# `judge` is a fingerprint and refers to no row of `judge`; `sends` and `sent_at` are known once the reservation is closed.
reservation = Table(
    "reservation",
    metadata,
    Column("run_id", Integer, ForeignKey(run.c.id), primary_key=True, autoincrement=False),
    Column("id", AnyText, primary_key=True),
    Column("call_key", _key(), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("judge", _key()),
    Column("sends", Integer, nullable=False, server_default="0"),
    Column("sent_at", Double),
    Index("ix_reservation_created_at", "created_at"),
)

# What a scorer thinks of a stored pair, in canonical order: the logit that `low` is preferred.
score = Table(
    "score",
    metadata,
    Column("scorer", AnyText, primary_key=True),
    Column("pair_key", _key(), ForeignKey(pair.c.key), primary_key=True),
    Column("logit", Double, nullable=False),
    Column("uncertainty", Double),
    Column("created_at", Double, nullable=False),
)

# Which response of a stored pair is known to be the better one, and from where: 1 `low`, -1 `high`, 0 neither.
label = Table(
    "label",
    metadata,
    Column("pair_key", _key(), ForeignKey(pair.c.key), primary_key=True),
    Column("preferred", Integer, nullable=False),
    Column("category", AnyText),
    Column("source", AnyText, nullable=False),
    Column("created_at", Double, nullable=False),
)

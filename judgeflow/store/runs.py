"""The runs of a database, how far each is, and whether it is at work.

Only what a run has written tells: nobody writes down that a run is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import RowMapping, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.ports import OPEN_FOR_S
from judgeflow.store import schema
from judgeflow.store.ledger import ReservationState
from judgeflow.types import Cost

Pace = Literal["running", "quiet", "interrupted", "finished"]
PACES: tuple[Pace, ...] = get_args(Pace)

QUIET_S = 60.0
QUIET_STEPS = 3.0
"""A run is quiet when nothing happened for a minute, and for three times as long as its last step took."""

RECENT = 64
"""Reservations that are looked at, newest first, for when a run was last at work."""


class RunRow(NamedTuple):
    """One run."""

    id: int
    name: str
    config: Mapping[str, Any]
    spent: Cost
    reserved: Cost
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a run is: `planned` steps, if its configuration says how many; `active_at` is when it was last seen at work.

    `steps` counts steps that have ended, each once, also those whose rows were compacted; `step_seconds` is what the last one took.
    `unended` is a step that was planned after all of these and has not ended: it is under way, or was interrupted.  `repeats` tells that
    the last one to end had ended before, and later ones too: the run goes through its steps again.
    """

    run: RunRow
    steps: int
    last_step: int | None
    step_seconds: float | None
    active_at: float
    planned: int | None
    unended: int | None
    repeats: bool = False

    @property
    def wanted(self) -> int | None:
        """How many of the planned steps have not ended; None where nobody has said how many there are."""
        return None if self.planned is None else max(0, self.planned - self.steps)


class Pulse(NamedTuple):
    """Changes whenever a run does: its newest end of a step, and what is spent and put aside."""

    newest: int
    requests: int
    tokens: int
    usd: float
    reserved: int


_STEP, _RUN, _DECISION = schema.step.c, schema.run.c, schema.decision.c


def _of_run(value: Any, run_id: Any, name: str) -> Any:
    """A value of another table's rows of the run."""
    return select(value).where(run_id == _RUN.id).correlate(schema.run).scalar_subquery().label(name)


_OTHER = schema.step.alias("other")
_ENDS = select(func.count()).where(_OTHER.c.run_id == _RUN.id, _OTHER.c.step == _STEP.step).correlate(schema.run, schema.step)
"""How often the step has ended that ended last."""

_FIRST = schema.step.alias("first")
_PAIRS_OF_LOWEST = select(_FIRST.c.pairs).where(_FIRST.c.run_id == _RUN.id).correlate(schema.run).order_by(_FIRST.c.step).limit(1)

_RUNS = select(
    schema.run,
    _of_run(func.count(func.distinct(_STEP.step)), _STEP.run_id, "steps"),
    _of_run(func.min(_STEP.step), _STEP.run_id, "lowest"),
    _PAIRS_OF_LOWEST.scalar_subquery().label("lowest_pairs"),
    _of_run(func.max(_STEP.step), _STEP.run_id, "highest"),
    _of_run(func.min(_DECISION.step), _DECISION.run_id, "first_begun"),
    _of_run(func.max(_DECISION.step), _DECISION.run_id, "begun"),
    _ENDS.scalar_subquery().label("ends"),
    _STEP.step.label("last_step"),
    _STEP.seconds,
    _STEP.created_at.label("ended_at"),
).outerjoin_from(schema.run, schema.step, _STEP.id == _of_run(func.max(_STEP.id), _STEP.run_id, "newest").element)


async def runs(connection: AsyncConnection) -> tuple[Standing, ...]:
    """Return every run, the one last at work first."""
    return tuple(sorted(await _standings(connection, _RUNS), key=lambda each: (-each.active_at, -each.run.id)))


async def run(connection: AsyncConnection, number: int) -> Standing | None:
    """Return one run by its id."""
    return next(iter(await _standings(connection, _RUNS.where(_RUN.id == number))), None)


async def run_named(connection: AsyncConnection, name: str) -> Standing | None:
    """Return one run by its name."""
    return next(iter(await _standings(connection, _RUNS.where(_RUN.name == name))), None)


async def _standings(connection: AsyncConnection, statement: Select[Any]) -> list[Standing]:
    recent = await _recent(connection)
    return [_standing(row, recent) for row in (await connection.execute(statement)).mappings()]


async def _recent(connection: AsyncConnection) -> dict[int, float]:
    """When runs were last seen to put budget aside, to send a question or to have a reply, as far as the newest reservations tell."""
    newest = select(schema.reservation).order_by(schema.reservation.c.created_at.desc()).limit(RECENT).subquery()
    call, entry = schema.call, newest.c
    answered = and_(call.c.key == entry.call_key, entry.state == ReservationState.SETTLED.value)
    seen: dict[int, float] = {}
    statement = select(entry.run_id, entry.created_at, entry.sent_at, call.c.created_at).outerjoin_from(newest, call, answered)
    for run_id, *moments in await connection.execute(statement):
        seen[run_id] = max(seen.get(run_id, 0.0), *(moment or 0.0 for moment in moments))
    return seen


def _standing(row: RowMapping, recent: Mapping[int, float]) -> Standing:
    found, last, highest = as_run(row), row["last_step"], row["highest"]
    planned = _section(found.config, "budget").get("steps")
    never_ended = row["begun"] is not None and (highest is None or row["begun"] > highest)
    return Standing(
        run=found,
        steps=row["steps"] + _compacted(row),
        last_step=last,
        step_seconds=row["seconds"],
        active_at=max(found.created_at, row["ended_at"] or 0.0, recent.get(found.id, 0.0)),
        planned=planned if isinstance(planned, int) else None,
        unended=row["begun"] if never_ended else None,
        repeats=last is not None and last < highest and row["ends"] > 1,
    )


def _compacted(row: RowMapping) -> int:
    """How many steps have no row any more: one of pairs without decisions is the last that was compacted, and stands for all before."""
    lowest, first_begun = row["lowest"], row["first_begun"]
    stands_for_others = row["lowest_pairs"] and (first_begun is None or first_begun > lowest)
    return lowest if stands_for_others else 0


async def pulse(connection: AsyncConnection, number: int | None = None) -> Pulse:
    """Return the pulse of one run, or of all together."""
    sums = select(*(func.sum(_RUN[name]) for name in ("spent_requests", "spent_tokens", "spent_usd", "reserved_requests")))
    newest = select(func.max(_STEP.id))
    if number is not None:
        sums, newest = sums.where(_RUN.id == number), newest.where(_STEP.run_id == number)
    counted = (await connection.execute(sums)).one()
    return Pulse((await connection.execute(newest)).scalar() or 0, *(value or 0 for value in counted))


def as_run(row: Mapping[Any, Any]) -> RunRow:
    """Return a run of a row that has all columns of `run`."""
    spent, reserved = (
        Cost(requests=row[f"{kind}_requests"], tokens=row[f"{kind}_tokens"], usd=row[f"{kind}_usd"]) for kind in ("spent", "reserved")
    )
    return RunRow(row["id"], row["name"], row["config"] or {}, spent, reserved, row["created_at"])


def pace_of(state: Standing, now: float) -> Pace:
    """Tell whether a run is at work at `now` (Unix time in seconds).

    finished     as many steps have ended as are planned, none is under way, and nothing is put aside or nothing happens any more
    running      it has written something lately
    interrupted  a step has not ended, and nothing has come for longer than a reply may take
    quiet        else: between two steps it is over, waits or was stopped, in the middle of one it waits or was stopped

    Steps are counted, whatever their numbers: some trainers begin with 1, or go on where another run has stopped.  Of a run that was
    compacted, those before its last compacted step are counted by that step's number.
    Budget that is put aside proves nothing: a process that was killed leaves it behind, and another one may have gone on since.
    """
    done = state.wanted == 0 and state.unended is None and not state.repeats
    if done and not state.run.reserved.requests:
        return "finished"
    silent, usual = now - state.active_at, max(QUIET_S, QUIET_STEPS * (state.step_seconds or 0.0))
    if silent <= usual:
        return "running"
    if done:
        return "finished"
    return "interrupted" if state.unended is not None and silent > max(usual, longest_reply_s(state.run.config)) else "quiet"


def longest_reply_s(config: Mapping[str, Any]) -> float:
    """Return how long a question may be under way: until its judge gives it up, and one attempt more."""
    judges = [config.get("judge"), *_section(config, "judges").values()]
    limits = [judge["retry_for_s"] + judge["timeout_s"] for judge in judges if isinstance(judge, Mapping) and judge.keys() >= _LIMITS]
    return max(limits, default=OPEN_FOR_S)


_LIMITS = {"retry_for_s", "timeout_s"}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}

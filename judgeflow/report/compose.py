"""From what was read to the figures of a run: pure, and the same whether it was read in one go or little by little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from judgeflow.plurals import plural
from judgeflow.report.answers import cost, healthy, helps
from judgeflow.report.figures import JudgeFigures, Lift, MinuteFigures, PairFigures, RunFigures, Share, StepFigures
from judgeflow.report.lift import lift
from judgeflow.report.news import news_of
from judgeflow.report.pace import forecast, left_after
from judgeflow.report.pressure import Felt, felt, told
from judgeflow.report.reading import MINUTE_S, JudgeSums, ReplyBook, StepDecisions, Testimony, merged
from judgeflow.report.settings import JudgeSettings, judges_of, stock_of
from judgeflow.report.verdicts import Comparison, Spoken, compare, first_preferred, orders_agree, spoken, verdicts
from judgeflow.routing.agreement import interval, share
from judgeflow.store.runs import RunRow, Standing, pace_of
from judgeflow.store.survey import StepRow
from judgeflow.types import Agreement, Cost, JudgeIdentity

SHOWN = 5
"""How many of the slowest pairs are told, and how many of those with contradicting orders."""

LATENCIES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """What decisions and replies say.

    `slow` and `torn` are the beginnings of the keys of the pairs to show, the first the slowest, or the most torn; `decided_in` has
    the last step that decided about each of these.
    """

    judges: Mapping[bytes, JudgeFigures]
    comparison: Comparison
    lift: Lift
    slow: tuple[int, ...]
    torn: tuple[int, ...]
    decided_in: Mapping[int, int]
    slowest: tuple[PairFigures, ...] = ()
    inconsistent: tuple[PairFigures, ...] = ()


def evaluate(decisions: Mapping[int, StepDecisions], book: ReplyBook, identities: Mapping[bytes, JudgeIdentity]) -> Deep:
    """Work out what decisions and replies say.  May take a second: run it off the loop."""
    names = sorted(book.judges, key=lambda judge: (list(identities).index(judge) if judge in identities else len(identities), judge))
    own, everything = (_renumbered(book.testimony(borrowed=others), book.judges, names) for others in (False, True))
    says = spoken(own)
    comparison = compare(decisions, verdicts(spoken(everything)))
    judges = {
        name: judge_figures(name, identities.get(name), book, (own, says), number)
        for number, name in enumerate(names)
        if book.sums[name].calls or book.sums[name].unanswered or any(judge == name for judge, _ in book.waiting.values())
    }
    slow, torn = slowest(own), most_torn(says)
    decided_in = last_steps(decisions, {*slow, *torn})
    return Deep(judges=judges, comparison=comparison, lift=lift(comparison), slow=slow, torn=torn, decided_in=decided_in)


def _renumbered(said: Testimony, before: Sequence[bytes], now: Sequence[bytes]) -> Testimony:
    """Return replies with their judges numbered as in `now`."""
    places = np.array([now.index(judge) for judge in before], dtype=np.int16)
    return replace(said, judges=places[said.judges]) if len(said) else said


def judge_figures(
    fingerprint: bytes, identity: JudgeIdentity | None, book: ReplyBook, replies: tuple[Testimony, Spoken], number: int
) -> JudgeFigures:
    """Return what one judge did; its limits are filled in later."""
    sums, (own, says) = book.sums[fingerprint], replies
    return JudgeFigures(
        id=identity.id if identity else "unknown",
        model=identity.model if identity else "unknown",
        fingerprint=fingerprint.hex(),
        calls=sums.calls,
        statuses=dict(sums.statuses.most_common()),
        agree=as_share(orders_agree(says, number)),
        first=as_share(first_preferred(own, number)),
        latency_s=latencies(own, number),
        spent=sums.spent,
        unanswered=sums.unanswered,
        minutes=tuple(minutes(sums, [created for judge, created in book.waiting.values() if judge == fingerprint])),
    )


def as_share(sums: Agreement) -> Share | None:
    """Return a tally as a share with its interval; None of nothing."""
    value, ends = share(sums), interval(sums)
    return None if value is None or ends is None else Share(value=value, low=ends[0], high=ends[1], of=sums.compared)


def latencies(said: Testimony, judge: int) -> dict[str, float]:
    """Return quantiles of how long replies took, each one of them, in seconds."""
    seconds = said.latencies[said.judges == judge]
    if not len(seconds):
        return {}
    found = np.quantile(seconds, list(LATENCIES.values()), method="inverted_cdf")
    return {name: round(float(value), 3) for name, value in zip(LATENCIES, found, strict=True)}


def minutes(sums: JudgeSums, waiting: Sequence[float]) -> Iterator[MinuteFigures]:
    """Yield the minutes in which something happened; what is `waiting` was asked at these moments and has not ended."""
    begun = sums.begun + Counter(int(at // MINUTE_S) for at in waiting)
    backlog = 0
    for minute in sorted(begun.keys() | sums.ended.keys() | sums.requests.keys()):
        backlog += begun[minute] - sums.ended[minute]
        yield MinuteFigures(
            start=float(minute * MINUTE_S), requests=sums.requests[minute], tokens=sums.tokens[minute], backlog=max(0, backlog)
        )


def slowest(said: Testimony) -> tuple[int, ...]:
    """Return the keys of the pairs whose slower reply took longest."""
    order = np.lexsort((said.keys, -said.latencies))[: 4 * SHOWN]
    return tuple(dict.fromkeys(said.keys[order].tolist()))[:SHOWN]


def most_torn(says: Spoken) -> tuple[int, ...]:
    """Return the keys of pairs whose orders contradict each other: where both are strong first, and of these the latest."""
    torn = np.flatnonzero(says.contradict)
    order = torn[np.lexsort((says.keys[torn], -says.ended[torn], ~says.strong[torn]))]
    return tuple(says.keys[order][:SHOWN].tolist())


def last_steps(decisions: Mapping[int, StepDecisions], keys: Collection[int]) -> dict[int, int]:
    """Return the last step that decided about each of these pairs."""
    wanted = np.array(sorted(keys), dtype=np.uint64)
    return {key: step for step in sorted(decisions) for key in np.intersect1d(decisions[step].cases.keys, wanted).tolist()}


def compose(
    standing: Standing,
    ends: Mapping[int, Sequence[StepRow]],
    decisions: Mapping[int, StepDecisions],
    identities: Mapping[bytes, JudgeIdentity],
    deep: Deep | None,
    *,
    complete: bool,
    now: float,
) -> RunFigures:
    """Return the figures of a run; without `deep` what needs decisions or replies is None or empty.  `now` is Unix time in seconds."""
    run, pace, left = standing.run, pace_of(standing, now), left_after(ends)
    steps = tuple(step_figures(merged(ends[number]), decisions.get(number), left[number]) for number in sorted(ends))
    judges = tuple(under_pressure(all_judges(run, identities, deep), felt(steps)))
    stock, compared = stock_of(run.config), deep.comparison if deep else None
    ahead = forecast(steps, stock, run.spent + run.reserved, standing.wanted)
    asked = [step.asked for step in steps]
    changed, both = (compared.changed, compared.compared) if compared else (None, None)
    per_change = run.spent.requests / changed if changed else None
    gains = deep.lift if deep else Lift(verdict="decisions have not been read")
    return RunFigures(
        name=run.name,
        at=now,
        pace=pace,
        news=news_of(standing, pace),
        complete=complete,
        created_at=run.created_at,
        config=run.config,
        answers=(
            healthy(steps, judges),
            cost(run.spent, run.reserved, stock, ahead, calls_per_change=per_change),
            helps(gains, changed=changed, compared=both),
        ),
        pairs=sum(step.pairs for step in steps),
        asked=None if None in asked else sum(number or 0 for number in asked),
        sources=_total(step.sources for step in steps),
        statuses=_total(step.statuses for step in steps),
        spent=run.spent,
        reserved=run.reserved,
        stock=stock,
        prompt_tokens=sum(step.prompt_tokens for step in steps),
        completion_tokens=sum(step.completion_tokens for step in steps),
        changed=changed,
        compared=both,
        steps=steps,
        judges=judges,
        forecast=ahead,
        lift=gains,
        slowest=deep.slowest if deep else (),
        inconsistent=deep.inconsistent if deep else (),
        notes=tuple(notes(run, steps, deep, complete=complete)),
    )


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def step_figures(row: StepRow, decided: StepDecisions | None, left: Mapping[str, float]) -> StepFigures:
    """Return one step, its ends merged; `left` is what it has left of the budget."""
    return StepFigures(
        step=row.step,
        ended_at=row.created_at,
        seconds=row.seconds,
        pairs=row.pairs,
        asked=decided.asks if decided else None,
        audits=decided.audits if decided else None,
        threshold=row.threshold,
        sources=row.sources,
        statuses=row.statuses,
        spent=Cost(requests=row.spent_requests, tokens=row.spent_tokens, usd=row.spent_usd),
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        agreement=row.agreement,
        waited_s=row.latency_s,
        remaining=left,
        uncertainty=decided.uncertainty if decided else None,
        acquisition=decided.acquisition if decided else None,
        pressure=row.pressure,
    )


def all_judges(run: RunRow, identities: Mapping[bytes, JudgeIdentity], deep: Deep | None) -> tuple[JudgeFigures, ...]:
    """Return the judges of the configuration, in its order, and then others that have answered."""
    return tuple(_judges(run, identities, deep))


def whose(judges: Iterable[JudgeFigures], identities: Mapping[bytes, JudgeIdentity]) -> frozenset[bytes]:
    """Return the fingerprints of the judges on whose verdicts a run may rest: whom it asked, and of those that are configured and have not
    been asked all that bear the name, for it may know their verdicts.
    """
    asked = {judge.fingerprint for judge in judges if judge.calls or judge.unanswered or judge.minutes}
    silent = {(judge.id, judge.model) for judge in judges if judge.fingerprint not in asked}
    return frozenset(key for key, judge in identities.items() if key.hex() in asked or (judge.id, judge.model) in silent)


def _judges(run: RunRow, identities: Mapping[bytes, JudgeIdentity], deep: Deep | None) -> Iterator[JudgeFigures]:
    answered = dict(deep.judges) if deep else {}
    for settings in judges_of(run.config):
        found = [key for key, judge in answered.items() if judge.id == settings.id]
        if not found:
            key = next((key for key, judge in identities.items() if (judge.id, judge.model) == (settings.id, settings.model)), b"")
            yield _limited(_silent(settings, key, answered=deep is not None), settings)
        for key in found:
            yield _limited(answered.pop(key), settings)
    yield from answered.values()


def _silent(settings: JudgeSettings, fingerprint: bytes, *, answered: bool) -> JudgeFigures:
    """A judge of whom no reply was read: because there is none, where replies were read."""
    return JudgeFigures(
        id=settings.id,
        model=settings.model,
        fingerprint=fingerprint.hex(),
        calls=0 if answered else None,
        statuses={},
        agree=None,
        first=None,
        latency_s={},
        spent=Cost() if answered else None,
    )


def _limited(judge: JudgeFigures, settings: JudgeSettings) -> JudgeFigures:
    return replace(judge, requests_per_minute=settings.requests_per_minute, tokens_per_minute=settings.tokens_per_minute)


def under_pressure(judges: Sequence[JudgeFigures], noted: Felt) -> Iterator[JudgeFigures]:
    """Yield judges with what they turned away: of those with the same id, which nobody has told apart, the one that was asked most."""
    bore: dict[str, JudgeFigures] = {}
    for judge in judges:
        bore[judge.id] = max(bore.get(judge.id, judge), judge, key=lambda each: each.calls or 0)
    for judge in judges:
        pressure = noted.judges.get(judge.id)
        if pressure is None or bore[judge.id] is not judge:
            yield judge
        else:
            yield replace(judge, pressure=pressure, strain=told(pressure, noted.seconds))


def notes(run: RunRow, steps: Sequence[StepFigures], deep: Deep | None, *, complete: bool) -> Iterator[str]:
    """Yield what the figures leave out, and why."""
    if not complete:
        yield f"decisions and replies{'' if deep is None else ' of the last steps'} are still being read"
    if not run.config:
        yield "no configuration is stored with this run: its limits and its budget are not known"
    if not steps:
        yield "no step has ended yet"
    silent = sum(step.pressure is None for step in steps)
    if silent:
        yield f"what judges turned away in {silent:,} of {plural(len(steps), 'step')} was not noted: an older judgeflow routed them"
    gone = [step.step for step in steps if step.asked is None]
    if complete and gone:
        yield f"the decisions of {len(gone):,} of {plural(len(steps), 'step')} are not in the database: `judgeflow db compact` lets them go"
    if deep is not None and run.spent.requests and not deep.judges:
        yield "the replies of this run are not in the database any more, so nothing is told of its judges"
    if deep is not None and len(deep.comparison.missing):
        yield f"{plural(len(deep.comparison.missing), 'verdict')} could not be compared: the replies are not in the database"

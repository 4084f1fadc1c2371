"""Traces out of what there is: a verdict database, or a file of pair records without any database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from judgeflow.adapters.datasets import read_dataset
from judgeflow.errors import RecordError, ReplayError
from judgeflow.exchange.evidence import EXPORTED, Finding
from judgeflow.exchange.importing import findings, records_of
from judgeflow.exchange.replies import Rules
from judgeflow.keys import pair_keys
from judgeflow.records import OnBadRecord, Unusable, after, refusal
from judgeflow.replay.exports import refuse_exports
from judgeflow.replay.gather import Gathering
from judgeflow.replay.selection import Design, Draw, design_of
from judgeflow.replay.trace import Trace
from judgeflow.store import history
from judgeflow.store.engines import database_at
from judgeflow.store.identities import judges_named
from judgeflow.store.queries import reading
from judgeflow.types import JudgeIdentity, Preference, Reading, ReadingStatus, Usage
from judgeflow.verdicts.prompt import load_template

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MEAN_Z = "mean-z"
"""The name of the mean of all scorers' logits, each divided by its own root mean square."""


def read_file(
    path: str | Path,
    *,
    scorer: str | None = None,
    template: str = "default",
    pairs: Path | None = None,
    on_bad_record: OnBadRecord = "fatal",
    tell: Callable[[Unusable], None] = lambda _: None,
) -> Trace:
    """Return the trace of a file of pair records with recorded replies, scores and labels; see `judgeflow import` for their forms.

    `scorer` names whose scores count, one of `rm_scores` or "mean-z"; it may be left out where there is one. `template` is how replies
    are read, `pairs` a file with the texts of records that have none. Identical responses are left out. Of a pair that comes again the
    replies are more samples; its first label and scores stay. `tell` is told of each bad record that is left out. Raises `RecordError`
    for what cannot be read, `ReplayError` where a scorer has to be chosen.
    """
    source = Path(path)
    gathered, scores, bad = Gathering(), dict[str, dict[bytes, Preference]](), list[Unusable]()
    rules = Rules(template=load_template(template), source=source.name, pairs=pairs)
    try:
        for finding in findings(records_of(source), rules, 0.0):
            if isinstance(finding, Finding):
                _take(gathered, scores, finding)
            else:
                bad.append(finding)
    except RecordError as error:
        raise after(bad, error) from None
    if bad and on_bad_record == "fatal":
        raise refusal(bad)
    for record in bad:
        tell(record)
    if not gathered.index:
        raise ReplayError(f"{source}: holds no pair that could be replayed")
    chosen = _chosen(str(source), scorer, scores)
    for key, belief in _beliefs(scores, chosen).items():
        gathered.believe(key, belief)
    trace = gathered.trace(str(source), chosen)
    refuse_exports(source, trace)
    return trace


def _take(gathered: Gathering, scores: dict[str, dict[bytes, Preference]], finding: Finding) -> None:
    evidence = finding.evidence
    keys = evidence.keys
    if keys.identical:
        return
    exported = any(reply.how == EXPORTED for reply in finding.replies)  # those are in canonical order, whichever way they were given
    if gathered.add(keys.pair, keys.prompt, swapped=None if exported else not keys.canonical):
        category = evidence.pair.metadata.get("category")
        gathered.file(keys.pair, category if isinstance(category, str) else None)
        if evidence.label is not None:
            gathered.label(keys.pair, evidence.label.preferred, evidence.label.category)
    for name, belief in evidence.scores.items():
        scores.setdefault(name, {}).setdefault(keys.pair, belief)
    for reply in finding.replies:
        call = reply.call
        gathered.hear(
            reply.judge,
            keys.pair,
            canonical=call.canonical,
            reading=call.reading,
            usage=call.reply.usage,
            usd=call.reply.usd,
            latency_s=call.reply.latency_s,
        )


def _chosen(source: str, scorer: str | None, names: Collection[str]) -> str | None:
    if scorer is None and len(names) <= 1:
        return next(iter(names), None)
    if scorer in names or (scorer == MEAN_Z and names):
        return scorer
    wrong = "scores of more than one scorer: choose one with --scorer" if scorer is None else f"no scores of {scorer!r}"
    there = f"there are {', '.join(sorted(names))}, and {MEAN_Z} of all of them" if names else "there are none"
    raise ReplayError(f"{source}: {wrong}; {there}")


def _beliefs(scores: Mapping[str, Mapping[bytes, Preference]], chosen: str | None) -> Mapping[bytes, Preference]:
    if chosen != MEAN_Z or MEAN_Z in scores:
        return scores[chosen] if chosen is not None else {}
    sizes = {name: float(np.sqrt(np.mean([belief.logit**2 for belief in each.values()]))) or 1.0 for name, each in scores.items()}
    common = set.intersection(*(set(each) for each in scores.values()))
    return {key: Preference(logit=sum(scores[name][key].logit / size for name, size in sizes.items()) / len(sizes)) for key in common}


def with_labels(trace: Trace, path: Path) -> Trace:
    """Return the trace with the labels of a file of pairs in any format, found by what the pairs say; others stay as they are.

    Raises `RecordError` for what cannot be read, `ReplayError` where no pair of the trace is labelled there.
    """
    sides = {"a": 1.0, "b": -1.0, "tie": 0.0}
    pairs = [(pair_keys(pair), pair.label) for pair in read_dataset(path)]
    known = {keys.pair: 0.5 + (1 if keys.canonical else -1) * sides[label] / 2 for keys, label in pairs if label is not None}
    if known.keys().isdisjoint(trace.keys):
        raise ReplayError(f"{path}: labels no pair of {trace.source}; name the file that was routed")
    truth = [known.get(key, before) for key, before in zip(trace.keys, trace.truth.tolist(), strict=True)]
    return replace(trace, truth=np.array(truth))


def with_order(trace: Trace, path: Path) -> Trace:
    """Return the trace with what a file of pairs in any format says of which response was given first, found by what the pairs say.

    Raises `RecordError` for what cannot be read, `ReplayError` where no pair of the trace stands there.
    """
    known = {keys.pair: not keys.canonical for keys in map(pair_keys, read_dataset(path))}
    if known.keys().isdisjoint(trace.keys):
        raise ReplayError(f"{path}: holds no pair of {trace.source}; name the file that was routed")
    told = [known.get(key) for key in trace.keys]
    swapped = [before if now is None else now for now, before in zip(told, trace.swapped.tolist(), strict=True)]
    return replace(trace, swapped=np.array(swapped), placed=trace.placed | np.array([now is not None for now in told]))


async def read_database(url: str, *, run: str | None = None, scorer: str | None = None) -> Trace:
    """Return the trace of a verdict database.

    With a `run`, of the pairs that it decided, step by step, with what its scorer thought of them; with a `scorer`, with that one's scores
    from the table `score` (or "mean-z" of all).  Without either, of all stored pairs with the only scorer, or the only run.  All judges
    are read.  Raises `ReplayError` where something has to be chosen, else as `judgeflow.store.queries.reading`.
    """
    name = database_at(url).name  # without a password
    async with reading(url) as connection:
        there = await history.contents(connection)
        run, scorer = _whose(name, there, run, scorer)
        gathered = Gathering()
        if run is None:
            async for key, prompt in history.pairs(connection):
                gathered.add(key, prompt)
        designs = await _recall_decisions(connection, gathered, run, there.judges, believe=scorer is None)
        if scorer is not None:
            for key, belief in (await _recall_scores(connection, there, scorer)).items():
                gathered.believe(key, belief)
        async for label in history.labelled(connection):
            gathered.label(label.pair_key, label.preferred, label.category)
        await _recall_replies(connection, gathered, there.judges)
    if not gathered.index:
        raise ReplayError(f"{name}: {_nothing(run, designs)}")
    trace = gathered.trace(name if run is None else f"{name}, run {run}", scorer or (f"run {run}" if run else None), designs)
    return replace(trace, scorer=None) if np.isnan(trace.logits).all() else trace


def _nothing(run: str | None, designs: Mapping[str, Design]) -> str:
    """Say why there are no pairs, and what to do."""
    if run is not None and run in designs and designs[run].lost:
        return (
            f"judgeflow db compact has removed what run {run} has decided; replay a copy of the database from before, or score its pairs, "
            "judgeflow import the scores, and name their scorer with --scorer"
        )
    return "holds no pair that could be replayed; route some, or judgeflow import them"


def _whose(name: str, there: history.Contents, run: str | None, scorer: str | None) -> tuple[str | None, str | None]:
    if run is not None and run not in there.runs:
        raise ReplayError(f"{name}: no run {run!r}; there are {', '.join(there.runs) or 'none'}")
    if scorer is not None or (run is None and there.scorers):
        return run, _chosen(name, scorer, there.scorers)
    if run is None and len(there.runs) > 1:
        raise ReplayError(f"{name}: more than one run: choose one with --run; there are {', '.join(there.runs)}")
    return run or next(iter(there.runs), None), None


async def _recall_decisions(
    connection: AsyncConnection, gathered: Gathering, run: str | None, judges: Mapping[bytes, JudgeIdentity], *, believe: bool
) -> dict[str, Design]:
    """Take in the run's pairs and beliefs, and what all runs have decided; return whom each of them has asked."""
    draws: list[tuple[bytes, Draw]] = []
    async for made in history.decided(connection):
        draws.append((made.pair_key, Draw(made.run, made.step, made.asked, made.source, made.propensity)))
        is_first = made.run == run and gathered.add(made.pair_key, made.prompt, step=made.step)
        # A pair that was known already was not scored: a logit of 0 without uncertainty says nothing.
        if is_first and believe and (made.logit or made.uncertainty is not None):
            gathered.believe(made.pair_key, Preference(logit=made.logit, uncertainty=made.uncertainty))
    for key, draw in draws:
        gathered.draw(key, draw)
    asking = {draw.run for _, draw in draws if draw.asked}
    return {name: _design(told, judges, is_asking=name in asking) for name, told in (await history.asked(connection)).items()}


def _design(told: history.Asked, judges: Mapping[bytes, JudgeIdentity], *, is_asking: bool) -> Design:
    """Return what is known of whom a run has asked; where its reservations do not tell, its settings do."""
    ids = {key: judge.id for key, judge in judges.items()}
    known = {key: count for key, count in told.judges.items() if key is not None}
    if told.lost or None in told.judges or (is_asking and not known):
        named = {key: 1 for key, name in ids.items() if name in judges_named(told.settings)}
        if not named:
            return Design(lost=told.lost)
        known = named | known
    return design_of(known, ids, told.settings, lost=told.lost)


async def _recall_scores(connection: AsyncConnection, there: history.Contents, scorer: str) -> Mapping[bytes, Preference]:
    names = there.scorers if scorer == MEAN_Z and MEAN_Z not in there.scorers else (scorer,)
    scores: dict[str, dict[bytes, Preference]] = {name: {} for name in names}
    for name in names:
        async for told in history.believed(connection, name):
            scores[name][told.pair_key] = Preference(logit=told.logit, uncertainty=told.uncertainty)
    return _beliefs(scores, scorer)


async def _recall_replies(connection: AsyncConnection, gathered: Gathering, judges: Mapping[bytes, JudgeIdentity]) -> None:
    async for told in history.spoken(connection):
        gathered.hear(
            judges[told.judge],
            told.pair_key,
            canonical=told.canonical,
            reading=Reading(status=ReadingStatus(told.status), preferred=told.preferred, strong=told.strong),
            usage=Usage(prompt=told.prompt_tokens, completion=told.completion_tokens),
            usd=told.usd,
            latency_s=told.latency_s,
        )

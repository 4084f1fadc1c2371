"""Two runs side by side: what differs, and whether chance alone could have made the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from judgeflow.report.figures import JudgeFigures, RunFigures, Share
from judgeflow.report.lift import difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of two runs; `unit` is "share", "USD", "s" or "" for a count.

    `change` is the second less the first, `interval` its 95 % interval, and `beyond_noise` whether that leaves out 0; both None where the
    figure has none.  What a run does not know is None.
    """

    name: str
    unit: str
    first: float | None
    second: float | None
    change: float | None
    interval: tuple[float, float] | None = None
    beyond_noise: bool | None = None


def compare(first: RunFigures, second: RunFigures) -> tuple[Difference, ...]:
    """Return what can be compared; judges as `matched` puts them side by side."""
    return (*_sizes(first, second), *_shares(first, second), *_of_judges(first, second))


def _sizes(first: RunFigures, second: RunFigures) -> Iterator[Difference]:
    yield _plain("pairs", "", first.pairs, second.pairs)
    yield _plain("asked share", "share", _part(first.asked, first.pairs), _part(second.asked, second.pairs))
    yield _plain("calls", "", first.spent.requests, second.spent.requests)
    yield _plain("tokens", "", first.spent.tokens, second.spent.tokens)
    yield _plain("cost", "USD", first.spent.usd, second.spent.usd)
    yield _plain("changed decisions", "", first.changed, second.changed)
    yield _plain("calls a change", "", first.calls_per_change, second.calls_per_change)
    yield _plain("cost a change", "USD", first.usd_per_change, second.usd_per_change)
    yield _plain("seconds a step", "s", _seconds(first), _seconds(second))


def _part(number: float | None, of: int) -> float | None:
    return None if number is None or not of else number / of


def _seconds(run: RunFigures) -> float | None:
    return sum(step.seconds for step in run.steps) / len(run.steps) if run.steps else None


def _shares(first: RunFigures, second: RunFigures) -> Iterator[Difference]:
    yield _share("mistakes among routed", first.lift.routed, second.lift.routed)
    yield _share("mistakes among audited", first.lift.audited, second.lift.audited)


def _of_judges(first: RunFigures, second: RunFigures) -> Iterator[Difference]:
    for one, other in matched(*([judge for judge in run.judges if judge.calls] for run in (first, second))):
        name = _name(one, other)
        yield _share(f"{name}: orders agree", one.agree if one else None, other.agree if other else None)
        yield _share(f"{name}: first preferred", one.first if one else None, other.first if other else None)
        yield _plain(f"{name}: not understood", "share", _unread(one), _unread(other))
        for quantile in ("p50", "p90"):
            yield _plain(f"{name}: {quantile}", "s", *(each.latency_s.get(quantile) if each else None for each in (one, other)))


def matched(first: Sequence[JudgeFigures], second: Sequence[JudgeFigures]) -> list[tuple[JudgeFigures | None, JudgeFigures | None]]:
    """Return the judges of two runs side by side: the same one, else one of the same id, else the only one that each run has left.

    The others stand alone: nobody can say which of several to compare with which.
    """
    pairs: list[tuple[JudgeFigures | None, JudgeFigures | None]] = []
    here, there = list(first), list(second)
    likenesses: tuple[Callable[[JudgeFigures], str], ...] = (lambda judge: judge.fingerprint, lambda judge: judge.id)
    for alike in likenesses:
        for judge in list(here):
            other = next((each for each in there if alike(each) == alike(judge)), None)
            if other is not None:
                pairs.append((judge, other))
                here.remove(judge)
                there.remove(other)
    if len(here) == len(there) == 1:
        return [*pairs, (here[0], there[0])]
    return [*pairs, *((judge, None) for judge in here), *((None, judge) for judge in there)]


def _name(one: JudgeFigures | None, other: JudgeFigures | None) -> str:
    """What both are called, or each: those of the same id with other settings by the beginnings of their fingerprints."""
    known = {judge.fingerprint: judge for judge in (one, other) if judge is not None}
    same_id = len({judge.id for judge in known.values()}) < len(known)
    return " / ".join(f"{judge.id}@{judge.fingerprint[:8]}" if same_id else judge.id for judge in known.values())


def _unread(judge: JudgeFigures | None) -> float | None:
    return 1 - judge.statuses.get("ok", 0) / judge.calls if judge is not None and judge.calls else None


def _plain(name: str, unit: str, first: float | None, second: float | None) -> Difference:
    change = None if first is None or second is None else second - first
    return Difference(name=name, unit=unit, first=first, second=second, change=change)


def _share(name: str, first: Share | None, second: Share | None) -> Difference:
    if first is None or second is None:
        return _plain(name, "share", first.value if first else None, second.value if second else None)
    change, low, high = difference(second, first)
    beyond = low > 0 or high < 0
    return Difference(
        name=name, unit="share", first=first.value, second=second.value, change=change, interval=(low, high), beyond_noise=beyond
    )

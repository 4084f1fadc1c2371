"""Two runs side by side: what differs, and whether chance alone could have made the difference."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Return what can be compared; judges are compared by their id."""
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
    others = {judge.id: judge for judge in second.judges}
    for judge in first.judges:
        other = others.get(judge.id)
        if other is not None:
            yield _share(f"{judge.id}: orders agree", judge.agree, other.agree)
            yield _share(f"{judge.id}: first preferred", judge.first, other.first)
            yield _plain(f"{judge.id}: not understood", "share", _unread(judge), _unread(other))
            yield _plain(f"{judge.id}: p50", "s", judge.latency_s.get("p50"), other.latency_s.get("p50"))
            yield _plain(f"{judge.id}: p90", "s", judge.latency_s.get("p90"), other.latency_s.get("p90"))


def _unread(judge: JudgeFigures) -> float | None:
    return 1 - judge.statuses.get("ok", 0) / judge.calls if judge.calls else None


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

"""How long a step of the reference workload takes, against the least that the judge's rate limit and latency allow.

256 prompts with four responses, 1,536 pairs a step, of which 6, 9 and 18 % are asked about in both orders, at 200, 500 and 1,000 requests
a minute.  The judge takes 20 to 60 s (lognormal, 90 % of its calls), and one call in fifty a minute and a half longer.  All of it in
virtual time: the scheduler, its plan, dispatcher and windows are the real ones, clock and judge are in memory, and
benchmarks/virtual_step.py says what takes no time there.  At most 1,000 requests are in flight, which is more than any step sends, so
that only the rate limit holds back.

The bound of a step: every call, in the order in which the judge received them, at its earliest legal moment after the step began, plus
the time that the judge took for it; the step cannot end before the last of these.  Legal is what the judge's own window of 60 s admits,
by brute force over its log, calls of earlier steps included.  `worst_` and `median_` are over all steps of all settings; steps follow each
other without a pause, which is when windows are fullest.  `_own_window` is the same for the window that judgeflow keeps, 60 s and the
margin of 0.5 s.  A straggler hides what a late call costs, so `_no_stragglers` leaves them out, and `worst_send_delay_s` is the longest
time that any call was sent after its earliest moment in judgeflow's own window.

With a deadline the threshold asks what comes back in time.  There, training takes a minute between steps, and the first step, which does
not know the judge yet, is not counted.  Late replies are paid for and stored, and count for no step.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.runner import Finding, Goal, table
from benchmarks.virtual_step import MOST_COMPLETION_TOKENS, PROMPTS, Run, Setting, Step, play
from benchmarks.windows import earliest_sends, peak
from judgeflow.config import RoutingConfig

SIZE = 3
"""Steps of each run that are counted."""

GOALS = {
    "worst_makespan_vs_bound": Goal("<=", 1.02),
    "median_makespan_vs_bound": Goal("<=", 1.02),
    "worst_makespan_vs_bound_no_stragglers": Goal("<=", 1.02),
    "turned_away": Goal("<=", 0),
}

RATES = (200, 500, 1000)
SHARES = (0.06, 0.09, 0.18)
DEADLINES_S = (60.0, 120.0, 300.0)
TRAINING_S = 60.0
FEW_IN_FLIGHT = (64, 128, 256)
WORKLOAD = PROMPTS
MINUTE_S = 60.0

KEEP = {"after_deadline": "keep"}
"""[routing] of the pipelined mode, where judgeflow has it: a step's questions go on after its deadline, while training goes on."""

PIPELINED: dict[str, tuple[float, dict[str, Any]]] = {
    "60 s, pipelined": (60.0, KEEP),
    "10 s, pipelined, fixed threshold": (10.0, KEEP | {"threshold": 0.0}),
}
"""Deadline and [routing].  An adaptive threshold asks what comes back in time: with 10 s nobody.  A fixed one asks up to the share."""

Cell = tuple[int, float]
"""Requests a minute, share of the pairs that is asked about."""


def measure(size: int, seed: int) -> Finding:
    """Return figures and tables; `size` is the number of steps of a run, the seed draws texts, beliefs, latencies and stragglers."""
    cells = [(rate, share) for rate in RATES for share in SHARES]
    common: dict[str, Any] = {"prompts": WORKLOAD, "seed": seed}
    whole = {cell: play(_setting(cell, steps=size, **common)) for cell in cells}
    even = {cell: play(_setting(cell, steps=size, stragglers=0.0, **common)) for cell in cells}
    timed = {
        (cell, deadline): play(_setting(cell, steps=1 + size, deadline_s=deadline, pause_s=TRAINING_S, **common))
        for cell in cells
        for deadline in DEADLINES_S
    }
    few = {
        (rate, most): play(_setting((rate, SHARES[-1]), steps=size, max_in_flight=most, **common))
        for rate in RATES
        for most in FEW_IN_FLIGHT
    }
    kept = {
        (cell, mode): play(_pipelined(cell, mode, size, common))
        for cell in cells
        for mode in PIPELINED
        if cell[1] == SHARES[-1] and has_pipelined_mode()
    }
    found = _Found(whole=whole, even=even, timed=timed, kept=kept, few=few)
    return Finding(figures=found.figures(), tables=found.tables(), details=found.details())


def _setting(cell: Cell, **more: Any) -> Setting:
    return Setting(requests_per_minute=cell[0], share=cell[1], **more)


def _pipelined(cell: Cell, mode: str, size: int, common: dict[str, Any]) -> Setting:
    deadline_s, routing = PIPELINED[mode]
    return _setting(cell, steps=1 + size, deadline_s=deadline_s, pause_s=TRAINING_S, routing=routing, **common)


def has_pipelined_mode() -> bool:
    """Whether this judgeflow lets questions go on after a step's deadline."""
    return set(KEEP) <= set(RoutingConfig.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A step's seconds over those of its bound: by the judge's window, and by the one that judgeflow keeps."""

    vs_bound: float
    vs_own_window: float
    send_delay_s: float


def bounded(run: Run, limit: int, own_period_s: float) -> list[Bounded]:
    """Return how each step of a run compares with its bound.  Steps that sent nothing have none."""
    return [_bounded(step, run, limit, own_period_s) for step in run.steps if step.sent]


def _bounded(step: Step, run: Run, limit: int, own_period_s: float) -> Bounded:
    before = [sent.at for sent in run.log if sent.at < step.started]

    def earliest(period_s: float) -> list[float]:
        return earliest_sends(len(step.sent), step.started, limit, period_s, before)

    def seconds(moments: Sequence[float]) -> float:
        return max(moment + sent.latency_s for moment, sent in zip(moments, step.sent, strict=True)) - step.started

    own = earliest(own_period_s)
    return Bounded(
        vs_bound=step.seconds / seconds(earliest(MINUTE_S)),
        vs_own_window=step.seconds / seconds(own),
        send_delay_s=max(sent.at - moment for moment, sent in zip(own, step.sent, strict=True)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What steps with a deadline come to, in the mean of those counted; `overrun_s` is the worst.

    Seconds blocked, the share of all pairs that were judged in time, and that the step was told of later, calls that came late.
    """

    blocked_s: float
    judged: float
    told_later: float
    late_calls: float
    overrun_s: float


def timed(run: Run, deadline_s: float) -> Timed:
    """Return what the steps after the first come to; the first is played with a judge that nobody knows yet."""
    steps = run.steps[1:]
    return Timed(
        blocked_s=statistics.mean(step.seconds for step in steps),
        judged=statistics.mean(judged_share(step) for step in steps),
        told_later=statistics.mean(run.late.get(step.statistics.step, 0) / step.statistics.pairs for step in steps),
        late_calls=statistics.mean(late_calls(step) for step in steps),
        overrun_s=max(step.seconds - deadline_s for step in steps),
    )


def judged_share(step: Step) -> float:
    """Return the share of a step's pairs that have the judge's word in time."""
    return step.statistics.sources.get("judge", 0) / step.statistics.pairs


def late_calls(step: Step) -> int:
    """Return how many calls of a step were answered after its end."""
    return sum(sent.at + sent.latency_s > step.started + step.seconds for sent in step.sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """All runs: to the end, to the end without stragglers, with deadlines, pipelined, and with few requests in flight."""

    whole: dict[Cell, Run]
    even: dict[Cell, Run]
    timed: dict[tuple[Cell, float], Run]
    kept: dict[tuple[Cell, str], Run]
    few: dict[tuple[int, int], Run]

    def figures(self) -> dict[str, float]:
        whole = [each for run in self._bounded(self.whole).values() for each in run]
        even = [each for run in self._bounded(self.even).values() for each in run]
        runs = [run for played in (self.whole, self.even, self.timed, self.kept, self.few) for run in played.values()]
        return {
            "worst_makespan_vs_bound": max(each.vs_bound for each in whole),
            "median_makespan_vs_bound": statistics.median(each.vs_bound for each in whole),
            "worst_makespan_vs_bound_own_window": max(each.vs_own_window for each in whole),
            "worst_makespan_vs_bound_no_stragglers": max(each.vs_bound for each in even),
            "worst_send_delay_s": max(each.send_delay_s for each in [*whole, *even]),
            "worst_deadline_overrun_s": max(self._overruns()),
            "turned_away": sum(run.turned_away for run in runs),
        }

    def _overruns(self) -> Iterator[float]:
        for (_, deadline), run in self.timed.items():
            yield timed(run, deadline).overrun_s
        for (_, mode), run in self.kept.items():
            yield timed(run, PIPELINED[mode][0]).overrun_s

    def _bounded(self, runs: dict[Cell, Run]) -> dict[Cell, list[Bounded]]:
        return {cell: bounded(run, cell[0], _setting(cell).limits.period_s) for cell, run in runs.items()}

    def tables(self) -> str:
        parts = [
            ("Sizing a judge account", _SIZING.format(tokens=self._tokens_a_call()), self._sizing()),
            ("How long a trainer is blocked", _BLOCKED, self._blocked()),
            ("What fewer requests in flight cost", _FEW, self._few()),
            ("Against the bound", _BOUND, self._against_bound()),
        ]
        return "\n\n".join(f"## {title}\n\n{text}\n\n{rows}" for title, text, rows in parts)

    def _tokens_a_call(self) -> str:
        sent = [sent for run in self.whole.values() for sent in run.log]
        used, reserved = (statistics.mean(values) for values in ([each.used for each in sent], [each.reserved for each in sent]))
        return f"{used:,.0f} tokens, of at most {reserved:,.0f}"

    def _sizing(self) -> str:
        head = ["requests a minute", "pairs asked about", "calls a step", "seconds a step"]
        head += [f"judged in {deadline:.0f} s" for deadline in DEADLINES_S]
        head += ["in flight", "tokens a minute, reserved", "used", "tokens a step"]
        return table(head, (self._size_of(cell) for cell in self.whole))

    def _size_of(self, cell: Cell) -> list[str]:
        run = self.whole[cell]
        moments = [sent.at for sent in run.log]
        reserved, used = ([getattr(sent, name) for sent in run.log] for name in ("reserved", "used"))
        return [
            f"{cell[0]:,}",
            f"{cell[1]:.0%}",
            f"{_median(run, lambda step: len(step.sent)):,.0f}",
            f"{_median(run, lambda step: step.seconds):.0f}",
            *(f"{timed(self.timed[cell, deadline], deadline).judged:.1%}" for deadline in DEADLINES_S),
            f"{run.most_in_flight:,}",
            f"{peak(moments, reserved, _setting(cell).limits.period_s):,}",
            f"{peak(moments, used, MINUTE_S):,}",
            f"{sum(used) / len(run.steps):,.0f}",
        ]

    def _blocked(self) -> str:
        head = ["requests a minute", "deadline", "seconds blocked", "judged in time", "told later", "calls that came late"]
        return table(head, (row for cell in self.whole if cell[1] == SHARES[-1] for row in self._blocked_by(cell)))

    def _blocked_by(self, cell: Cell) -> Iterator[list[str]]:
        rate, steps = f"{cell[0]:,}", self.whole[cell].steps
        judged = statistics.mean(judged_share(step) for step in steps)
        yield [rate, "none", f"{statistics.mean(step.seconds for step in steps):.0f}", f"{judged:.1%}", "", ""]
        for deadline in reversed(DEADLINES_S):
            yield [rate, f"{deadline:.0f} s", *_timed_cells(timed(self.timed[cell, deadline], deadline))]
        for (at, mode), run in self.kept.items():
            if at == cell:
                yield [rate, mode, *_timed_cells(timed(run, PIPELINED[mode][0]))]

    def _few(self) -> str:
        head = ["requests a minute", *(f"{most} in flight" for most in FEW_IN_FLIGHT), "enough"]
        return table(head, (self._few_at(rate) for rate in RATES))

    def _few_at(self, rate: int) -> list[str]:
        runs = [*(self.few[rate, most] for most in FEW_IN_FLIGHT), self.whole[rate, SHARES[-1]]]
        return [f"{rate:,}", *(f"{_seconds(run):.0f}" for run in runs)]

    def _against_bound(self) -> str:
        head = ["requests a minute", "pairs asked about", "seconds, worst step", "worst over bound", "own window", "without stragglers"]
        whole, even = self._bounded(self.whole), self._bounded(self.even)
        return table(
            head,
            (
                [
                    f"{cell[0]:,}",
                    f"{cell[1]:.0%}",
                    f"{max(step.seconds for step in run.steps):.1f}",
                    f"{max(each.vs_bound for each in whole[cell]):.4f}",
                    f"{max(each.vs_own_window for each in whole[cell]):.4f}",
                    f"{max(each.vs_bound for each in even[cell]):.4f}",
                ]
                for cell, run in self.whole.items()
            ),
        )

    def details(self) -> dict[str, Any]:
        """Every step by setting: calls, seconds, and how it compares with its bound."""
        return {
            "whole": [
                {"requests_per_minute": rate, "share": share, "seconds": [step.seconds for step in run.steps], "calls": len(run.log)}
                for (rate, share), run in self.whole.items()
            ],
            "deadline": [
                {"requests_per_minute": rate, "share": share, "deadline_s": deadline, "judged": [judged_share(step) for step in run.steps]}
                for ((rate, share), deadline), run in self.timed.items()
            ],
        }


def _timed_cells(found: Timed) -> list[str]:
    return [f"{found.blocked_s:.0f}", f"{found.judged:.1%}", f"{found.told_later:.1%}", f"{found.late_calls:.0f}"]


def _median(run: Run, of: Callable[[Step], float]) -> float:
    return statistics.median(of(step) for step in run.steps)


def _seconds(run: Run) -> float:
    return _median(run, lambda step: step.seconds)


_SIZING = f"""One step of 1,536 pairs.  A call takes {{tokens}} with `max_completion_tokens = {MOST_COMPLETION_TOKENS}`; tokens scale with
your texts.  `judged in 60 s` is the share of all pairs that have the judge's word when `step_deadline_s = 60` ends the step.  `in flight`
is what `max_in_flight` has to admit.  Tokens a minute are the most in any window: `reserved` (prompt and longest reply) is what an
account that charges at arrival needs, and what `tokens_per_minute` has to be, if nothing is to be slower for it; `used` is what an account
needs that charges real usage."""

_BLOCKED = f"""Seconds that `route` takes with {SHARES[-1]:.0%} of the pairs asked about, of a trainer that trains for a minute between
steps; without a deadline it waits for everything.  Pipelined, with `after_deadline = "keep"`, `late_outcomes()` tells what comes after
the step."""

_FEW = f"Seconds a step with {SHARES[-1]:.0%} of the pairs asked about, by `max_in_flight`."

_BOUND = "Seconds over those of the bound, the worst step of each setting."

"""What a routed file came to: counts, cost, and accuracy where there are labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.table import Table

from judgeflow.cli.benchmark import benchmark_record, benchmark_rows
from judgeflow.errors import QuestionTooLong
from judgeflow.plurals import plural
from judgeflow.records import outcome_record
from judgeflow.report.pressure import together, told
from judgeflow.routing.agreement import ENOUGH, interval, share, shares_by_decile
from judgeflow.types import IDENTICAL, OK, Agreement, Cost, Outcome, Pressure, StepResult

if TYPE_CHECKING:
    from judgeflow.adapters.scores import BenchmarkScore

UNASKED = ("judge_stopped", "unreachable", "overloaded", "rate_limited", "reply_lost", "judge_error", "store_error", "scorer_failed")
"""Statuses of pairs that the judge, the way to it, or the scorer failed: the same command takes them up again."""

TOO_LONG = QuestionTooLong.status


@dataclass(slots=True)
class Share:
    """How many of how many."""

    hits: float = 0
    of: int = 0

    def add(self, hit: float) -> None:
        """Count one more."""
        self.hits += hit
        self.of += 1

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.hits / self.of if self.of else None


@dataclass(slots=True)
class JudgeShare:
    """What one judge did: pairs that have a verdict of it, stored ones too, and what it was paid."""

    pairs: int = 0
    paid: Cost = field(default_factory=Cost)


@dataclass(slots=True)
class Summary:
    """Adds up steps.  Accuracy is over labelled pairs of two different responses: of each order and of the combined choice where the judge
    spoke, and of the sign of the final logit everywhere (a logit of exactly 0 earns half).  `lengths` counts judged pairs by characters of
    both responses, of the same pairs with and without a label; `first_too_long` names the first pair that was too long to be asked about,
    by its place and id, `judges` has the share of each judge by its id; `benchmark` is the score of the benchmark that all pairs are
    from.  `paid` is what all replies have cost by the end, those included that came after their step.
    """

    out: str
    orders: str = "both"
    skipped: int = 0
    run: str = ""
    pairs: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    sources: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    agreement: Share = field(default_factory=Share)
    accuracy: dict[str, Share] = field(default_factory=dict)
    remaining: dict[str, float | None] = field(default_factory=dict)
    routed: Agreement = field(default_factory=Agreement)
    audited: Agreement = field(default_factory=Agreement)
    lengths: dict[int, Share] = field(default_factory=dict)
    first_too_long: str = ""
    judges: dict[str, JudgeShare] = field(default_factory=dict)
    benchmark: BenchmarkScore | None = None
    pressure: dict[str, Pressure] = field(default_factory=dict)
    paid: Cost = field(default_factory=Cost)

    @property
    def late(self) -> Cost:
        """What replies have cost that came after their step: they are stored, and no outcome here rests on them."""
        if self.paid.requests <= self.calls:
            return Cost()
        return self.paid - Cost(requests=self.calls, tokens=self.prompt_tokens + self.completion_tokens, usd=self.usd)

    @property
    def decided(self) -> int:
        """Pairs about which somebody had a word, scorer, judge or store, or nobody needs one, since the responses are identical."""
        return self.pairs - self.sources["fallback"]

    @property
    def unasked(self) -> Counter[str]:
        """Pairs that the judge, the way to it, or the scorer failed, by status."""
        return Counter({status: self.statuses[status] for status in UNASKED if self.statuses[status]})

    def add(self, result: StepResult) -> None:
        """Add one step."""
        statistics = result.statistics
        self.pairs += statistics.pairs
        self.calls += statistics.calls
        self.prompt_tokens += statistics.prompt_tokens
        self.completion_tokens += statistics.completion_tokens
        self.usd += statistics.spent.usd
        self.seconds += statistics.seconds
        self.sources.update(statistics.sources)
        self.statuses.update(statistics.statuses)
        self.remaining = dict(statistics.remaining)
        self.pressure = together([self.pressure, statistics.pressure])
        self.routed += statistics.routed
        self.audited += statistics.audited
        for name, paid in statistics.judges.items():
            self._judge(name).paid += paid
        for place, outcome in enumerate(result.outcomes, start=self.pairs - len(result.outcomes) + 1):
            self._compare(outcome)
            if outcome.status == TOO_LONG and not self.first_too_long:
                self.first_too_long = f"pair {place:,}" + (f" ({outcome.pair.id})" if outcome.pair.id else "")

    def _compare(self, outcome: Outcome) -> None:
        if outcome.status == IDENTICAL:
            return
        verdict, label = outcome.verdict, outcome.pair.label
        length = len(outcome.pair.response_a) + len(outcome.pair.response_b)
        self.lengths.setdefault(length, Share()).add(verdict is not None)
        if verdict is not None:
            self._judge(verdict.judge.id).pairs += 1
        if verdict is not None and verdict.swapped_agree is not None:
            self.agreement.add(verdict.swapped_agree)
        if label is None:
            return
        record = outcome_record(outcome)
        for name in ("choice_ab", "choice_ba", "choice"):
            if verdict is not None and record[name] is not None:
                self._share(name).add(record[name] == label)
        if label != "tie":
            self._share("logit").add(0.5 if outcome.logit == 0 else (outcome.logit > 0) == (label == "a"))

    def _judge(self, name: str) -> JudgeShare:
        return self.judges.setdefault(name, JudgeShare())

    def _share(self, name: str) -> Share:
        return self.accuracy.setdefault(name, Share())

    def as_record(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "run": self.run,
            "pairs": self.pairs,
            "skipped": self.skipped,
            "sources": dict(self.sources),
            "statuses": dict(self.statuses),
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "usd": self.usd,
            "late": {"calls": self.late.requests, "tokens": self.late.tokens, "usd": self.late.usd},
            "judges": {
                name: {"pairs": judge.pairs, "calls": judge.paid.requests, "tokens": judge.paid.tokens, "usd": judge.paid.usd}
                for name, judge in self.judges.items()
            },
            "pressure": {name: asdict(pressure) for name, pressure in self.pressure.items()},
            "agreement": self.agreement.value,
            "accuracy": {name: part.value for name, part in self.accuracy.items()},
            "labelled": {name: part.of for name, part in self.accuracy.items()},
            "benchmark": benchmark_record(self.benchmark),
            "audit": {"routed": _agreement_record(self.routed), "audited": _agreement_record(self.audited)},
            "judged_by_length_decile": shares_by_decile({length: (part.hits, part.of) for length, part in self.lengths.items()}),
            "remaining": self.remaining,
            "seconds": self.seconds,
            "out": self.out,
        }


_ACCURACY_NAMES = {
    "choice_ab": "accuracy, response_a shown first",
    "choice_ba": "accuracy, response_b shown first",
    "choice": "accuracy, both orders combined",
    "logit": "accuracy of the final logit",
}

_ONE_ORDER = {"choice": "accuracy, the orders asked"}


def print_summary(summary: Summary, *, as_json: bool) -> None:
    """Print a summary on stdout: one JSON object, or a table."""
    if as_json:
        print(orjson.dumps(summary.as_record()).decode())
        return
    table = Table(title=f"run {summary.run}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in summary_rows(summary):
        table.add_row(name, value)
    Console().print(table)


def summary_rows(summary: Summary) -> list[tuple[str, str]]:
    """Return the lines of the table: what each is called, and what it says."""
    rows = [("pairs", f"{summary.pairs:,}" + (f" ({plural(summary.skipped, 'bad record')} skipped)" if summary.skipped else ""))]
    rows.append(("decided by", _counts(summary.sources)))
    if summary.statuses[IDENTICAL]:
        rows.append(("identical, not asked", f"{summary.statuses[IDENTICAL]:,}"))
    missing = Counter({name: n for name, n in summary.statuses.items() if name not in {OK, IDENTICAL}})
    if missing:
        rows.append(("not ok", _counts(missing)))
    rows += _cost_rows(summary)
    if summary.agreement.value is not None:
        rows.append(("both orders agree", f"{summary.agreement.value:.3f} of {summary.agreement.of:,}"))
    if summary.audited.compared >= ENOUGH:
        rows.append(("audit", _audit_line(summary.routed, summary.audited)))
    rows += _accuracy_rows(summary)
    rows += benchmark_rows(summary.benchmark)
    rows.append(("seconds", f"{summary.seconds:.1f}"))
    rows.append(("outcomes", summary.out))
    return rows


def _cost_rows(summary: Summary) -> Iterator[tuple[str, str]]:
    """What was paid, to whom, and what is left; and what a judge did not bear."""
    yield "judge calls paid", f"{summary.calls:,}"
    if len(summary.judges) > 1:
        yield "of each judge", "; ".join(_judge_line(name, judge) for name, judge in summary.judges.items())
    if summary.pressure:
        yield "turned away", _pressure(summary)
    yield "tokens in / out", f"{summary.prompt_tokens:,} / {summary.completion_tokens:,}"
    if summary.usd:
        yield "USD", f"{summary.usd:.4f}"
    if summary.late.requests:
        yield "paid, but too late", _late(summary.late)
    left = {name: value for name, value in summary.remaining.items() if value is not None}
    if left:
        yield "budget left", ", ".join(_left(name, value) for name, value in left.items())


def _late(late: Cost) -> str:
    usd = f", {late.usd:.4f} USD" if late.usd else ""
    return f"{plural(late.requests, 'call')}, {late.tokens:,} tokens{usd}, stored"


def _left(kind: str, value: float) -> str:
    return f"{value:,.4f} USD" if kind == "usd" else plural(value, kind.removesuffix("s"))


def _accuracy_rows(summary: Summary) -> list[tuple[str, str]]:
    titles = _ACCURACY_NAMES if summary.orders == "both" else _ACCURACY_NAMES | _ONE_ORDER
    parts = {title: summary.accuracy.get(key) for key, title in titles.items()}
    return [(title, f"{part.value:.3f} of {part.of:,}") for title, part in parts.items() if part is not None and part.value is not None]


def _agreement_record(sums: Agreement) -> dict[str, Any]:
    low, high = interval(sums) or (None, None)
    return {"asked": sums.asked, "compared": sums.compared, "agreement": share(sums), "low": low, "high": high}


def _audit_line(routed: Agreement, audited: Agreement) -> str:
    parts = [f"{_percent(sums)} of {name}" for name, sums in (("audited", audited), ("routed", routed)) if sums.compared]
    return f"the scorer agrees with the judge on {' and '.join(parts)} pairs"


def _percent(sums: Agreement) -> str:
    low, high = interval(sums) or (0.0, 1.0)
    return f"{share(sums) or 0.0:.0%} ({low:.0%}-{high:.0%})"


def _pressure(summary: Summary) -> str:
    """A line for each judge that had too much to do, with its name where there are several."""
    several = len({*summary.judges, *summary.pressure}) > 1
    lines = {judge: told(pressure, summary.seconds).removeprefix("turned away ") for judge, pressure in summary.pressure.items()}
    return "\n".join(f"{judge}: {line}" if several else line for judge, line in lines.items())


def _judge_line(name: str, judge: JudgeShare) -> str:
    usd = f", {judge.paid.usd:.4f} USD" if judge.paid.usd else ""
    return f"{name}: {plural(judge.pairs, 'pair')}, {plural(judge.paid.requests, 'call')}{usd}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counter.most_common()) or "-"

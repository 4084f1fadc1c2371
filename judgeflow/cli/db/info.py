"""`judgeflow db info`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from judgeflow.cli.db.common import AsJson, ConfigFile, Url, address_of, megabytes, print_json, print_line, print_table, share
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from judgeflow.store.queries import JudgeSummary, RunSummary, Summary


SHOWN = 8
"""Digits of a fingerprint: as many as `--judge` and the names of judges of one id take."""


def info(url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Describe the database: rows and sizes, judges and how well their two orders agree, scores, labels, and what every run has spent.

    Example: judgeflow db info --url verdicts.db
    """
    import asyncio

    from judgeflow.store.queries import summary

    found = asyncio.run(summary(address_of(url, config)))
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        _print_summary(found)


def _print_summary(found: Summary) -> None:
    from judgeflow.report.wording import moment

    replies = [moment for judge in found.judges for moment in (judge.since, judge.until) if moment is not None]
    period = f", replies from {_day(min(replies))} to {_day(max(replies))}" if replies else ""
    print_line(f"{found.path}: {megabytes(found.size)}, schema {found.revision}{period}")
    size = "size" if found.sized_by == "pages" else "texts"
    print_table(["table", "rows", size], ([name, f"{rows:,}", megabytes(found.table_bytes[name])] for name, rows in found.rows.items()))
    print_table(["judge", "fingerprint", "model", "calls", "not understood", "orders agree"], map(_judge_cells, found.judges))
    print_table(
        ["judge", "first preferred", "tokens in, out", "seconds p50, p90, p99", "USD"],
        ([_called(judge, found.judges), *_cost_cells(judge)] for judge in found.judges if judge.calls),
    )
    print_table(["run", "steps", "decisions", "requests", "tokens", "USD", "put aside"], map(_run_cells, found.runs))
    print_table(["run", "now", "last at work"], ([run.name, run.pace, moment(run.active_at)] for run in found.runs))
    print_table(["scorer", "scored pairs"], ([name, f"{pairs:,}"] for name, pairs in found.scorers.items()))
    print_table(["labels from", "labelled pairs"], ([name, f"{pairs:,}"] for name, pairs in found.labels.items()))


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _judge_cells(judge: JudgeSummary) -> list[str]:
    unread = ", ".join(f"{number} {status}" for status, number in sorted(judge.statuses.items()) if status != "ok")
    return [
        judge.id,
        judge.fingerprint[:SHOWN],
        judge.model,
        f"{judge.calls:,}",
        unread or "none",
        share(judge.agreement, judge.pairs),
    ]


def _called(judge: JudgeSummary, all_judges: Iterable[JudgeSummary]) -> str:
    """Its id; with the beginning of its fingerprint where another one has the same."""
    return judge.id if [other.id for other in all_judges].count(judge.id) == 1 else f"{judge.id}@{judge.fingerprint[:SHOWN]}"


def _cost_cells(judge: JudgeSummary) -> list[str]:
    tokens = f"{judge.prompt_tokens_mean:,.0f}, {judge.completion_tokens_mean:,.0f}"
    seconds = ", ".join(f"{quantile:.3f}" for quantile in judge.latency_s.values())
    return [share(judge.first_shown), tokens, seconds, f"{judge.usd:.4f}"]


def _run_cells(run: RunSummary) -> list[str]:
    put_aside = run.reserved
    held = (
        f"{plural(put_aside.requests, 'request')}, {plural(put_aside.tokens, 'token')}, {put_aside.usd:.4f} USD"
        if run.open_reservations
        else "-"
    )
    return [
        run.name,
        str(run.steps),
        f"{run.decisions:,}",
        f"{run.spent.requests:,}",
        f"{run.spent.tokens:,}",
        f"{run.spent.usd:.4f}",
        held,
    ]

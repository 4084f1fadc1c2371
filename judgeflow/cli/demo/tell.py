"""What the demo says in the end."""

from __future__ import annotations

import dataclasses

import orjson
from rich.console import Console
from rich.table import Table

from judgeflow.cli.demo.judge import ACCURACY, POSITION_BIAS
from judgeflow.cli.demo.play import AGAIN, SHARE, Report
from judgeflow.cli.demo.score import ArmScore, Estimate
from judgeflow.cli.demo.tasks import FAMILIAR, UNFAMILIAR
from judgeflow.plurals import plural


def print_report(report: Report, *, as_json: bool) -> None:
    """Print the report on stdout: one JSON object, or a table and what to try next."""
    if as_json:
        print(orjson.dumps(dataclasses.asdict(report), default=str).decode())
        return
    console = Console(highlight=False)
    console.print(_introduction(report), soft_wrap=True)
    console.print(_table(report))
    console.print(_ending(report), soft_wrap=True, markup=False)


def _introduction(report: Report) -> str:
    script, trained = report.script, report.training
    return (
        f"A scorer, trained on {trained.pairs:,} pairs in {trained.seconds:.0f} s, is right about {trained.validation.accuracy:.1%} "
        f"of new pairs like those.\n"
        f"{script.steps} steps of {script.step_size} pairs, 3 in 10 of kinds it has never seen. The judge is right about {ACCURACY:.0%};\n"
        f"in {POSITION_BIAS:.0%} it takes what is shown first. It is asked about {SHARE:.0%} of the pairs, in both orders:\n"
    )


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    names = ("policy", "accuracy", "minus\nrandom", "calls", "tokens", "sec", "orders\nagree", "asked of\nfamiliar", "asked of\nthe rest")
    for name in names:
        table.add_column(name, justify="left" if name == "policy" else "right")
    for arm, score in report.arms.items():
        table.add_row(arm, *_cells(score, against="-" if arm == "random" else _estimate(score.minus_random, "+.3f")))
    return table


def _cells(score: ArmScore, against: str) -> list[str]:
    return [
        _estimate(score.accuracy, ".3f"),
        against,
        f"{score.calls:,}",
        f"{score.tokens / 1000:,.0f} k",
        f"{score.seconds:.1f}",
        "-" if score.agreement is None else f"{score.agreement:.3f}",
        *(f"{score.judged[kind]:.0%}" for kind in (FAMILIAR, UNFAMILIAR)),
    ]


def _estimate(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} ±{estimate.half_width:.3f}".replace("0.", ".")


def _ending(report: Report) -> str:
    folder = report.script.directory
    counted = report.judge["requests"]
    turned_away = report.judge["statuses"].get("429", 0)
    again = plural(report.again.calls, "call")
    return (
        f"\n±: 95 % intervals. The judge counted {plural(counted, 'request')} itself and turned {turned_away} away for its rate limit.\n"
        f'Policy "{AGAIN}" once more: {again}, {report.again.seconds:.1f} s. Every verdict is in {folder}/{AGAIN}.db, '
        f"every attempt and step in {folder}/{AGAIN}.log.\n"
        f"\n"
        f"Try next:\n"
        f"  judgeflow replay {folder}/always.db --labels {folder}/pairs.jsonl\n"
        f"  judgeflow db info --url {folder}/{AGAIN}.db\n"
        f"  judgeflow score {folder}/pairs.jsonl --scorer {folder}/scorer --evaluate\n"
        f"  judgeflow train YOUR_PAIRS.jsonl --backbone YOUR_ENCODER --out scorer"
    )

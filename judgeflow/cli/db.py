"""`judgeflow db`: create, upgrade, check and describe a verdict database."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from judgeflow.store.queries import JudgeSummary, RunSummary, Summary

DEFAULT_URL = "sqlite+aiosqlite:///judgeflow.db"

app = typer.Typer(help="Create, upgrade, check and describe a verdict database.", no_args_is_help=True, rich_markup_mode=None)

Url = Annotated[
    str | None, typer.Option("--url", help="Database address or file; default: [store] url of the configuration, or judgeflow.db.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="File to take [store] url from; default: judgeflow.toml if there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def upgrade(url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Create the database, or bring an older one to this version's schema.  Copy it first: there is no way back."""
    import asyncio

    from judgeflow.store import migrate
    from judgeflow.store.engines import database_at
    from judgeflow.store.schema import REVISIONS

    address = address_of(url, config)
    before = asyncio.run(migrate.upgrade(address))
    shown = database_at(address).url
    found = before.revision or "nothing"
    if as_json:
        _print_json({"url": shown, "before": before.revision, "revision": REVISIONS[-1], "changed": before.kind != "current"})
    elif before.kind == "current":
        print(f"{shown} is up to date (schema {REVISIONS[-1]})")
    else:
        print(f"{shown}: schema {found} -> {REVISIONS[-1]}")


@app.command()
def check(url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Prove that the database is sound: schema, pages, references, keys of all texts, budgets.  Exit code 1 if it is not."""
    import asyncio

    from judgeflow.store.check import check as run_checks
    from judgeflow.store.engines import database_at

    address = address_of(url, config)
    findings = asyncio.run(run_checks(address))
    sound = all(finding.ok for finding in findings)
    if as_json:
        _print_json({"url": database_at(address).url, "ok": sound, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.detail}")
    if not sound:
        raise typer.Exit(1)


@app.command()
def info(url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Describe the database: rows, size, judges and how well their two orders agree, and what every run has spent."""
    import asyncio

    from judgeflow.store.queries import summary

    found = asyncio.run(summary(address_of(url, config)))
    if as_json:
        _print_json(dataclasses.asdict(found))
    else:
        _print_summary(found)


def address_of(url: str | None, config: Path | None) -> str:
    """Return --url, else the configuration's, else judgeflow.db in this folder; relative paths of a configuration start as it says."""
    from judgeflow.store.engines import normalise_url

    if url is not None:
        return normalise_url(url)
    from judgeflow.config import DEFAULT_FILE, load_config

    if config is None and not Path(DEFAULT_FILE).exists():
        return normalise_url(DEFAULT_URL)
    settings = load_config(config or DEFAULT_FILE)
    return normalise_url(settings.store.url, settings.path("."))


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _print_summary(found: Summary) -> None:
    from rich.console import Console

    console = Console()
    console.print(f"{found.path}: {found.size / 1e6:.1f} MB, schema {found.revision}", highlight=False, soft_wrap=True, markup=False)
    _print_table(console, ["table", "rows"], ([name, f"{number:,}"] for name, number in found.rows.items()))
    _print_table(console, ["judge", "model", "calls", "not understood", "orders agree", "USD"], map(_judge_cells, found.judges))
    _print_table(console, ["run", "steps", "decisions", "requests", "tokens", "USD", "put aside"], map(_run_cells, found.runs))


def _judge_cells(judge: JudgeSummary) -> list[str]:
    unread = ", ".join(f"{number} {status}" for status, number in sorted(judge.statuses.items()) if status != "ok")
    agree = "-" if judge.agreement is None else f"{judge.agreement:.3f} of {judge.pairs:,}"
    return [judge.id, judge.model, f"{judge.calls:,}", unread or "none", agree, f"{judge.usd:.4f}"]


def _run_cells(run: RunSummary) -> list[str]:
    put_aside = run.reserved
    held = f"{put_aside.requests:,} requests, {put_aside.tokens:,} tokens, {put_aside.usd:.4f} USD" if run.open_reservations else "-"
    return [
        run.name,
        str(run.steps),
        f"{run.decisions:,}",
        f"{run.spent.requests:,}",
        f"{run.spent.tokens:,}",
        f"{run.spent.usd:.4f}",
        held,
    ]


def _print_table(console: Any, columns: list[str], rows: Iterable[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # names come from users: no markup in them
    if table.row_count:
        console.print(table)

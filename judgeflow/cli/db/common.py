"""Options that the verbs share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_URL = "sqlite+aiosqlite:///judgeflow.db"

Url = Annotated[
    str | None, typer.Option("--url", help="Database address or file; default: [store] url of the configuration, or judgeflow.db.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="File to take [store] url from; default: judgeflow.toml if there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")]


def address_of(url: str | None, config: Path | None) -> str:
    """--url, else the configuration's, else judgeflow.db in this folder; relative paths of a configuration start as it says."""
    from judgeflow.store.engines import normalise_url

    if url is not None:
        return normalise_url(url)
    from judgeflow.config import DEFAULT_FILE, load_config

    if config is None and not Path(DEFAULT_FILE).exists():
        return normalise_url(DEFAULT_URL)
    settings = load_config(config or DEFAULT_FILE)
    return normalise_url(settings.store.url, settings.path("."))


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on a line."""
    print(json.dumps(value, ensure_ascii=False))


def print_line(line: str) -> None:
    """Print a line as it is: paths and names are no markup, and stay on one line."""
    from rich.console import Console

    Console().print(line, highlight=False, soft_wrap=True, markup=False)


def print_table(columns: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table, or nothing if it has no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # a long name takes several lines: a part of it would name nobody
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # names come from users: no markup in them
    if table.row_count:
        Console().print(table)


def megabytes(size: int) -> str:
    """Return bytes as MB."""
    return f"{size / 1e6:,.1f} MB"


def share(value: float | None, of: int | None = None) -> str:
    """Return a share with three digits, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if of is None else f"{value:.3f} of {of:,}"

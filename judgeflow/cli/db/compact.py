"""`judgeflow db compact`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.db.common import AsJson, ConfigFile, DryRun, Url, address_of, megabytes, print_json, print_line, print_table

if TYPE_CHECKING:
    from judgeflow.store.compact import Compacted, Stage


def compact(
    url: Url = None,
    config: ConfigFile = None,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Drop decisions, steps and closed reservations of runs in which nothing happened for so long.")
    ] = None,
    drop_texts_of_scorer_only: Annotated[
        bool, typer.Option("--drop-texts-of-scorer-only", help="Drop pairs with their scores that only a scorer has seen.")
    ] = False,
    drop_replies_older_than: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, help="Drop replies that are older, though they were paid for.")
    ] = None,
    vacuum: Annotated[bool, typer.Option("--vacuum/--no-vacuum", help="Rewrite the file without gaps; no run may go on meanwhile.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Drop what nothing refers to and what you let go, and give the space back.

    Without options only texts and pairs go that nothing refers to. Replies go with --drop-replies-older-than alone. What a run has
    spent stays counted, and open reservations stay.

    Example: judgeflow db compact --keep-days 90 --dry-run
    """
    import asyncio
    import time

    from judgeflow.cli.interrupt import interruptible
    from judgeflow.store.compact import compact as let_go
    from judgeflow.store.compact import retention

    allowed = retention(time.time(), keep_days=keep_days, drop_replies_days=drop_replies_older_than, scored_only=drop_texts_of_scorer_only)
    done: list[Stage] = []
    with interruptible(lambda: _kept(done, vacuum=vacuum, dry_run=dry_run)):
        found = asyncio.run(let_go(address_of(url, config), allowed, vacuum=vacuum, dry_run=dry_run, tell=done.append))
    if as_json:
        print_json({"dry_run": dry_run} | dataclasses.asdict(found))
    else:
        _print(found, dry_run=dry_run)


def _kept(done: list[Stage], *, vacuum: bool, dry_run: bool) -> str:
    if dry_run:
        return "a dry run changes nothing"
    if "deleted" not in done:
        return "nothing was changed; the same command begins again"
    if "rewritten" in done or not vacuum:
        return "everything is done"
    return "the rows are gone, and their space is still part of the file; the same command gives it back"


def _print(found: Compacted, *, dry_run: bool) -> None:
    print_table(["table", "rows that would go" if dry_run else "rows gone"], ([name, f"{rows:,}"] for name, rows in found.rows.items()))
    if found.runs:
        print_line(f"runs: {', '.join(found.runs)}")
    if not dry_run:
        print_line(f"{megabytes(found.size_before)} -> {megabytes(found.size_after)}")

"""`judgeflow db merge`."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.db.common import AsJson, DryRun, print_json, print_line, print_table
from judgeflow.cli.options import ShowProgress
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from judgeflow.cli.progress import Tell
    from judgeflow.store.merge import Merged


def merge(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Databases to read, addresses or files.")],
    into: Annotated[str, typer.Option("--into", metavar="URL", help="Database that takes them in; it is created if it is missing.")],
    rename_runs: Annotated[
        str, typer.Option(metavar="SUFFIX", help="Append this to the name of a run whose name another run has there.")
    ] = "",
    dry_run: DryRun = False,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Bring verdicts, scores, labels and runs of other databases into one.  Sources stay as they are.

    What is there already wins. Each source comes in as a whole or not at all; merging one again adds only what is new.

    Exit codes: 0 everything is in; 1 a run was left out because another one has its name.

    Example: judgeflow db merge node1.db node2.db --into all.db --rename-runs=-node2
    """
    import asyncio

    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.progress import activity
    from judgeflow.errors import StoreError
    from judgeflow.store.engines import database_at

    brought: list[Merged] = []
    with interruptible(lambda: _kept(sources, brought, dry_run=dry_run)), activity(wanted=progress) as tell:
        asyncio.run(_bring_in(sources, into, brought, rename_runs=rename_runs, dry_run=dry_run, tell=tell))
    if as_json:
        print_json({"into": database_at(into).url, "dry_run": dry_run, "sources": [dataclasses.asdict(found) for found in brought]})
    else:
        for found in brought:
            _print(found)
    refused = [(name, found.source) for found in brought for name in found.refused_runs]
    if refused:
        names = ", ".join(f"{name} of {source}" for name, source in refused)
        raise StoreError(f"left out, since another run has the name: {names}; give them other names with --rename-runs SUFFIX")


async def _bring_in(sources: list[str], into: str, brought: list[Merged], *, rename_runs: str, dry_run: bool, tell: Tell) -> None:
    """Merge one source after the other, noting what each has brought; all are looked at before the first is."""
    import asyncio

    from judgeflow.store.engines import database_at
    from judgeflow.store.merge import merge, require_mergeable

    await require_mergeable(sources, into)
    for source in sources:
        telling = functools.partial(tell, database_at(source).name)
        brought.append(await merge(source, into, rename_runs=rename_runs, dry_run=dry_run, tell=telling))
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # too late for this source, in time for the next
            raise asyncio.CancelledError


def _kept(sources: list[str], brought: list[Merged], *, dry_run: bool) -> str:
    if dry_run:
        return "a dry run keeps nothing"
    there = f"{', '.join(found.source for found in brought)} came in before, as a whole; " if brought else ""
    missing = ", ".join(sources[len(brought) :])
    return f"{there}nothing of {missing} was taken; the same command brings in the rest" if missing else f"{there}nothing is missing"


def _print(found: Merged) -> None:
    print_line(f"{found.source}:")
    rows = ([name, f"{new:,}", f"{found.known.get(name, 0):,}"] for name, new in found.added.items() if new or found.known.get(name))
    print_table(["table", "new", "there already"], rows)
    for name, renamed in found.runs.items():
        print_line(f"run {name}" + (f" is now {renamed}" if renamed != name else ""))
    for name in found.known_runs:
        print_line(f"run {name} was merged before")
    if found.other_replies:
        some = ", ".join(key[:16] for key in found.named)
        print_line(f"{plural(found.other_replies, 'call has', 'calls have')} another reply there, which stays: {some}")
    if found.other_readings:
        number = plural(found.other_readings, "reply is", "replies are")
        print_line(f"{number} read otherwise there; `judgeflow db reparse` reads all by the same rules")
    if found.other_values:
        print_line(f"{plural(found.other_values, 'score or label has', 'scores and labels have')} another value there, which stays")
    if found.open_reservations:
        print_line(f"{plural(found.open_reservations, 'open reservation')} came along, to stay charged at the worst case")

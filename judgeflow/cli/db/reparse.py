"""`judgeflow db reparse`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli.completion import template_names
from judgeflow.cli.db.common import AsJson, ConfigFile, DryRun, Url, address_of, print_json, print_line, print_table, share
from judgeflow.cli.options import ShowProgress
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from judgeflow.store.reparse import Agreement, Reparsed


def reparse(
    url: Url = None,
    config: ConfigFile = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml",
            autocompletion=template_names,
            help="Read by the [verdicts] of this template; default: each judge's own.",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this judge's replies: its id, or the beginning of its fingerprint.")
    ] = None,
    dry_run: DryRun = False,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Read stored replies again, with this version's parser or with other rules.  Nothing is asked; what they said before is kept.

    It may run beside a run. If it is interrupted, what is done is done: run it again.

    Example: judgeflow db reparse --template verdict-scale --dry-run
    """
    import asyncio

    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.progress import activity
    from judgeflow.store.reparse import reparse as read_again
    from judgeflow.verdicts.prompt import load_template

    rules = None if template is None else load_template(template)
    kept = "nothing was changed" if dry_run else "what has been read again is stored; the same command reads the rest"
    with interruptible(lambda: kept), activity(wanted=progress) as tell:
        found = asyncio.run(read_again(address_of(url, config), template=rules, judge=judge, dry_run=dry_run, tell=tell))
    if as_json:
        print_json(_record(found, dry_run=dry_run))
    else:
        _print(found, dry_run=dry_run)


def _record(found: Reparsed, *, dry_run: bool) -> dict[str, Any]:
    changes = [{"before": before, "after": after, "calls": calls} for (before, after), calls in found.changes.items()]
    return {"dry_run": dry_run} | dataclasses.asdict(dataclasses.replace(found, changes={})) | {"changes": changes}


def _print(found: Reparsed, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    changed = sum(found.changes.values())
    print_line(
        f"{plural(found.calls, 'reply', 'replies')}, {changed:,} {would}read differently, {found.renewed:,} the same by an older parser"
    )
    if found.newer:
        print_line(f"{found.newer:,} were read by a newer version of judgeflow and stay as they are")
    print_table(["before", "after", "replies"], ([before, after, f"{calls:,}"] for (before, after), calls in found.changes.items()))
    if changed:
        print_table(["judge", "orders agree before", "after"], map(_agreement_cells, found.agreement))
    for example in found.examples:
        print_line(f"{example.call[:16]} of {example.judge}, {example.before} -> {example.after}: {' '.join(example.text.split())}")


def _agreement_cells(found: Agreement) -> list[str]:
    return [found.judge, share(found.before, found.pairs_before), share(found.after, found.pairs_after)]

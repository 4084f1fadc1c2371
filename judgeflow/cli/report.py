"""`judgeflow report`: whether judging is healthy, what it costs, and whether it helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.db.common import ConfigFile, Url, address_of
from judgeflow.cli.record_files import STDOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judgeflow.report.figures import RunFigures


def report(
    run: Annotated[str, typer.Argument(help="Name of the run; latest: the one in which something happened last.")] = "latest",
    url: Url = None,
    config: ConfigFile = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(metavar="RUN RUN", help="Show two runs side by side, with what differs beyond noise.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row for each step there; - is stdout.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with charts and pairs to read there; - is stdout.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say whether judging is healthy, what it costs and whether it helps, from what a run has stored.

    Only reads, also while the run goes on. Shares have 95 % intervals; docs/report.md says what every figure means.

    Example: judgeflow report --url judgeflow.db
    """
    import asyncio

    from judgeflow.cli.csv_file import one_on_stdout

    address = address_of(url, config)
    if compare is not None:
        if csv is not None or html is not None or run != "latest":
            raise typer.BadParameter("names both runs, goes without RUN, --csv and --html: --compare RUN RUN", param_hint="--compare")
        first, second = asyncio.run(_read(address, compare))
        _tell_both(first, second, as_json=json)
        return
    aside = one_on_stdout({"--csv": csv, "--html": html}, as_json=json)
    _check_page(html)
    _protect({"--csv": csv, "--html": html}, address)
    (figures,) = asyncio.run(_read(address, [run]))
    _write_files(figures, csv, html)
    _tell(figures, as_json=json, aside=aside)


def _check_page(html: Path | None) -> None:
    """Raise `UsageError` where a page cannot take the place of what is there."""
    from judgeflow.cli.outcomes_file import require_file

    if html is not None and html != STDOUT:
        require_file(f"--html {html}", html)


def _write_files(figures: RunFigures, csv: Path | None, html: Path | None) -> None:
    if csv is not None:
        from judgeflow.cli.report_files import write_csv

        write_csv(figures, csv)
    if html == STDOUT:
        from judgeflow.report.html import report_page

        typer.echo(report_page(figures).encode())
    elif html is not None:
        from judgeflow.report.html import write_report

        write_report(figures, html)


def _protect(written: dict[str, Path | None], address: str) -> None:
    """Raise `UsageError` where a file that is to be written is the database."""
    from judgeflow.errors import UsageError
    from judgeflow.store.engines import file_of

    database = file_of(address)
    for option, path in written.items():
        if path not in (None, STDOUT) and database is not None and path.exists() and database.exists() and path.samefile(database):
            raise UsageError(f"{option} {path} would overwrite the database; name another file")


async def _read(address: str, runs: Sequence[str]) -> list[RunFigures]:
    from judgeflow.report.survey import open_survey

    found = []
    for run in runs:
        async with open_survey(address, run) as survey:
            found.append(await survey.refresh())
    return found


def _tell(figures: RunFigures, *, as_json: bool, aside: bool) -> None:
    """Print a report; `aside`, on stderr, where stdout is taken."""
    if as_json:
        from judgeflow.cli.report_files import as_record, print_record

        print_record(as_record(figures))
    else:
        from judgeflow.cli.report_screen import print_report

        print_report(figures, aside=aside)


def _tell_both(first: RunFigures, second: RunFigures, *, as_json: bool) -> None:
    import dataclasses

    from judgeflow.report.compare import compare

    differences = compare(first, second)
    if as_json:
        from judgeflow.cli.report_files import print_record

        print_record({"runs": [first.name, second.name], "differences": [dataclasses.asdict(each) for each in differences]})
    else:
        from judgeflow.cli.report_screen import print_comparison

        print_comparison(first, second, differences)

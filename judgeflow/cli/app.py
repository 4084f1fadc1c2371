"""The table of verbs.  Each lives in a file of its own and imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from judgeflow import __version__
from judgeflow.cli import config, db
from judgeflow.cli.demo import demo
from judgeflow.cli.doctor import doctor
from judgeflow.cli.export import export
from judgeflow.cli.fake_judge import fake_judge
from judgeflow.cli.help import GroupedVerbs, Verb
from judgeflow.cli.import_ import import_
from judgeflow.cli.logs import logs
from judgeflow.cli.replay import replay
from judgeflow.cli.report import report
from judgeflow.cli.route import route
from judgeflow.cli.score import score
from judgeflow.cli.serve import serve
from judgeflow.cli.train import train

BEGIN, SCORE, ASK, KEEP, TEST = "Begin", "Have a scorer", "Ask the judge", "Keep verdicts", "Test"
"""Under what each verb stands in `judgeflow --help`; one that names none of them comes last."""

app = typer.Typer(
    name="judgeflow",
    cls=GroupedVerbs,
    help="Ask a strong LLM judge only where your preference model is uncertain.",
    epilog="judgeflow VERB --help tells what a verb takes, with an example. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Verb, rich_help_panel=BEGIN)(demo)
app.add_typer(config.app, name="config", rich_help_panel=BEGIN)
app.command("doctor", cls=Verb, rich_help_panel=BEGIN)(doctor)
app.command("train", cls=Verb, rich_help_panel=SCORE)(train)
app.command("score", cls=Verb, rich_help_panel=SCORE)(score)
app.command("route", cls=Verb, rich_help_panel=ASK)(route)
app.command("replay", cls=Verb, rich_help_panel=ASK)(replay)
app.command("report", cls=Verb, rich_help_panel=ASK)(report)
app.command("serve", cls=Verb, rich_help_panel=ASK)(serve)
app.command("logs", cls=Verb, rich_help_panel=ASK)(logs)
app.command("import", cls=Verb, rich_help_panel=KEEP)(import_)
app.command("export", cls=Verb, rich_help_panel=KEEP)(export)
app.add_typer(db.app, name="db", rich_help_panel=KEEP)
app.command("fake-judge", cls=Verb, rich_help_panel=TEST)(fake_judge)


def _print_version(value: bool) -> None:
    if value:
        print(f"judgeflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Options that stand before the verb."""

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
from judgeflow.cli.import_ import import_
from judgeflow.cli.logs import logs
from judgeflow.cli.replay import replay
from judgeflow.cli.report import report
from judgeflow.cli.route import route
from judgeflow.cli.score import score
from judgeflow.cli.serve import serve
from judgeflow.cli.train import train

app = typer.Typer(
    name="judgeflow",
    help="Ask a strong LLM judge only where your preference model is uncertain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo)
app.command("train")(train)
app.command("score")(score)
app.command("route")(route)
app.command("replay")(replay)
app.command("report")(report)
app.command("import")(import_)
app.command("export")(export)
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor)
app.command("logs")(logs)
app.command("serve")(serve)
app.command("fake-judge")(fake_judge)


def _print_version(value: bool) -> None:
    if value:
        print(f"judgeflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Options that stand before the verb."""

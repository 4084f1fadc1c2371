"""`judgeflow db`: everything that looks after a verdict database.  One verb a file, as with the verbs of `judgeflow`."""

from __future__ import annotations

import typer

from judgeflow.cli.db.check import check
from judgeflow.cli.db.compact import compact
from judgeflow.cli.db.info import info
from judgeflow.cli.db.merge import merge
from judgeflow.cli.db.reparse import reparse
from judgeflow.cli.db.upgrade import upgrade
from judgeflow.cli.help import GroupedVerbs, Verb

app = typer.Typer(
    cls=GroupedVerbs,
    help="Create, upgrade, check, describe, re-read, merge and compact verdict databases.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in (upgrade, check, info, reparse, merge, compact):
    app.command(cls=Verb)(verb)

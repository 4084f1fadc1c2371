"""`judgeflow doctor`: does everything that a run needs work, from here, now?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from judgeflow.cli.options import Settings
from judgeflow.cli.overrides import overrides


def doctor(
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")] = Path("judgeflow.toml"),
    settings: Settings = None,
    ask: Annotated[bool, typer.Option("--ask", help="Also ask each judge a small question, which is paid for (and stored).")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at everything a run needs: the judges, their keys and limits, tokens, the scorer and its device, the database, and what watches.

    Nothing is paid for without --ask. Exit code 1 if something does not work.

    Example: judgeflow doctor --config judgeflow.toml --ask
    """
    import asyncio

    from judgeflow.cli.examine import examine
    from judgeflow.config import load_config

    findings = asyncio.run(examine(load_config(config, overrides(settings)), ask=ask))
    sound = all(finding.ok is not False for finding in findings)
    if json:
        import json as module

        print(module.dumps({"ok": sound, "findings": [dataclasses.asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.ok]} {finding.check}: {finding.detail}")
    if not sound:
        raise typer.Exit(1)


_MARKS = {True: "ok   ", False: "WRONG", None: "note "}

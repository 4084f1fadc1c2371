"""`judgeflow demo`: the whole loop on a laptop, offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def demo(
    directory: Annotated[Path, typer.Option("--directory", "-d", help="New folder for everything that the demo makes.")] = Path(
        "judgeflow-demo"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Training steps to play.")] = 25,
    step_size: Annotated[int, typer.Option(min=10, help="Pairs of one step.")] = 100,
    training_pairs: Annotated[int, typer.Option(min=200, help="Pairs to train the scorer on.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other pairs and another scorer.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train a small scorer, start a local judge, and see what asking pays for.

    Writes pairs whose answers are known, from seven families of tasks that the
    scorer is trained on and four that it has never seen. Then the same steps
    run once for each policy, with the same budget, through the real scheduler
    into a verdict database each. Takes about a minute; needs no network.

    Example: judgeflow demo --directory /tmp/demo
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts: a small scorer gains nothing from more, and repeats itself so
    from judgeflow.cli.demo.play import Script, play
    from judgeflow.cli.demo.tell import print_report

    script = Script(directory=directory, steps=steps, step_size=step_size, training_pairs=training_pairs, seed=seed)
    print_report(play(script, quiet=json), as_json=json)

"""The options of `judgeflow replay`, and what they ask for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli import options as accepted
from judgeflow.cli.completion import template_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from judgeflow.replay.trace import Trace
    from judgeflow.replay.whatif import WhatIf

SHARE = 0.2
_DATABASE = b"SQLite format 3\0"

Source = Annotated[str, typer.Argument(metavar="DB|FILE", help="A verdict database, or pair records with recorded replies.")]

# What is read
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="Start from the settings of this configuration.")]
Run = Annotated[str | None, typer.Option(help="The pairs, and the scorer's beliefs, of this run of the database.")]
Judges = Annotated[
    list[str] | None,
    typer.Option(metavar="ID", help="Whose verdicts; repeatable, to compare. A,B: B where A is silent; A=2,B=1: shared by lot."),
]
Scorer = Annotated[str | None, typer.Option(metavar="NAME", help="Whose scores: a reward model, or mean-z of all.")]
Template = Annotated[str, typer.Option(metavar="NAME|FILE", autocompletion=template_names, help="How recorded replies of a file are read.")]
OnBadRecord = Annotated[accepted.OnBadRecord, typer.Option(help="fatal: stop; skip: leave bad records of a file out.")]
Pairs = Annotated[
    Path | None, typer.Option(metavar="PAIRS.jsonl", help="The file that was routed: texts that FILE lacks, and which response came first.")
]
Labels = Annotated[Path | None, typer.Option(metavar="PAIRS.jsonl", help="Take labels of the same pairs from this file.")]

# What is different
Shares = Annotated[
    list[float] | None, typer.Option(min=0.0, max=1.0, help="Share of the pairs that may be judged; repeatable. Default: 0.2.")
]
Orders = Annotated[accepted.Orders | None, typer.Option(help="Which orders of a pair are asked.")]
Policies = Annotated[
    list[accepted.ReplayPolicy] | None, typer.Option(help="Policies to play in time; repeatable. Default: all there can be.")
]
Rates = Annotated[list[int] | None, typer.Option(min=1, help="Requests that the account admits; repeatable.")]
TokenRate = Annotated[int | None, typer.Option(min=1, help="Tokens that the account admits.")]
InFlight = Annotated[int | None, typer.Option(min=1, help="Requests under way at the same time.")]
BudgetRequests = Annotated[int | None, typer.Option(min=0, help="Paid replies of the whole run.")]
BudgetTokens = Annotated[int | None, typer.Option(min=0, help="Tokens of the whole run.")]
BudgetUsd = Annotated[float | None, typer.Option(min=0.0, help="US dollars of the whole run.")]
Deadline = Annotated[float | None, typer.Option(min=0.0, help="Seconds after which a step goes on without the rest.")]
LatencyOf = Annotated[
    str | None, typer.Option(help="How long calls take: recorded, seconds, or lognormal:MEDIAN:SIGMA. Default: recorded.")
]
TokensPerCall = Annotated[str | None, typer.Option(metavar="PROMPT,COMPLETION", help="What calls take in tokens where nobody recorded it.")]
StepSize = Annotated[int | None, typer.Option(min=1, help="Pairs of a step. Default: as recorded, or 1536.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")]
Resamples = Annotated[int, typer.Option(min=100, help="Resamples behind the intervals.")]

# What is written
Csv = Annotated[Path | None, typer.Option(help="Write one row for each policy and share, and for each what-if, there; - is stdout.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE.svg|png", help="Draw accuracy against calls, tokens and time.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")]


def protect(written: Mapping[str, Path | None], read: Sequence[Path | None]) -> None:
    """Raise `UsageError` where a file that is to be written is one that is read, or a database."""
    from judgeflow.errors import UsageError

    for option, path in written.items():
        if path is None or not path.exists():
            continue
        if any(other is not None and other.exists() and path.samefile(other) for other in read):
            raise UsageError(f"{option} {path} would overwrite what is replayed; name another file")
        if path.is_file() and _beginning(path) == _DATABASE:
            raise UsageError(f"{option} {path} would overwrite a database; name another file")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(_DATABASE))


def some_shares(given: Sequence[float] | None) -> list[float]:
    """Return each share once.  Raises `BadParameter` for one of nothing."""
    shares = list(dict.fromkeys(given or [SHARE]))
    if min(shares) <= 0:
        raise typer.BadParameter("a share is above 0 and at most 1; policy never is played anyway", param_hint="--share")
    return shares


def tokens(given: str | None) -> dict[str, int | None]:
    """Return the two numbers of --tokens-per-call by their settings.  Raises `BadParameter`."""
    if given is None:
        return {}
    parts = given.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise typer.BadParameter("expected two whole numbers, for instance 1700,310", param_hint="--tokens-per-call")
    return {"prompt_tokens": int(parts[0]), "completion_tokens": int(parts[1])}


def base(config: Path | None, given: Mapping[str, Any]) -> WhatIf:
    """Return the settings that all what-ifs share: those that are given, the others of the configuration.

    A threshold that adapts needs something to adapt to, so the share comes later.
    """
    import dataclasses

    from judgeflow.config import load_config
    from judgeflow.replay.whatif import WhatIf

    changes = {name: value for name, value in given.items() if value is not None}
    if config is None:
        return WhatIf(**({"max_share": SHARE} | changes))
    return dataclasses.replace(WhatIf.from_settings(load_config(config)), **changes)


def grid(
    common: WhatIf, shares: Sequence[float], policies: Sequence[str] | None, rates: Sequence[int] | None, trace: Trace
) -> Iterator[WhatIf]:
    """Yield every combination that is to be played in time: `never` and `always` once, the others with each share."""
    import dataclasses

    from judgeflow.replay.findings import check_playable, playable

    check_playable(trace, policies or ())
    windows: Sequence[int | None] = rates or [common.requests_per_minute]
    for name, rate in itertools.product(policies or playable(trace), windows):
        for share in shares if name not in {"never", "always"} else [1.0]:
            yield dataclasses.replace(common, policy=name, max_share=share or None, requests_per_minute=rate)  # type: ignore[arg-type]

"""`judgeflow replay`: what other policies, limits and budgets would have come to, over verdicts that are paid for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from judgeflow.records import BadRecord
    from judgeflow.replay.findings import Found
    from judgeflow.replay.trace import Trace
    from judgeflow.replay.whatif import WhatIf

_SUFFIXES = {".jsonl", ".json", ".parquet"}
SHARE = 0.2
_DATABASE = b"SQLite format 3\0"


def replay(
    source: Annotated[str, typer.Argument(metavar="DB|FILE", help="A verdict database, or pair records with recorded replies.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Start from the settings of this configuration.")] = None,
    run: Annotated[str | None, typer.Option(help="The pairs, and the scorer's beliefs, of this run of the database.")] = None,
    judge: Annotated[str | None, typer.Option(metavar="ID", help="Whose verdicts; may be left out where there is one judge.")] = None,
    scorer: Annotated[str | None, typer.Option(metavar="NAME", help="Whose scores: a reward model, or mean-z of all.")] = None,
    template: Annotated[str, typer.Option(metavar="NAME|FILE", help="How recorded replies of a file are read.")] = "default",
    on_bad_record: Annotated[str, typer.Option(help="fatal: stop; skip: leave bad records of a file out.")] = "fatal",
    labels: Annotated[Path | None, typer.Option(metavar="PAIRS.jsonl", help="Take labels of the same pairs from this file.")] = None,
    share: Annotated[
        list[float] | None, typer.Option(min=0.0, max=1.0, help="Share of the pairs that may be judged; repeatable. Default: 0.2.")
    ] = None,
    orders: Annotated[str | None, typer.Option(help="both, adaptive, random or first: which orders of a pair are asked.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policies to play in time; repeatable. Default: all there can be.")] = None,
    requests_per_minute: Annotated[list[int] | None, typer.Option(min=1, help="Requests that the account admits; repeatable.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens that the account admits.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(min=1, help="Requests under way at the same time.")] = None,
    budget_requests: Annotated[int | None, typer.Option(min=0, help="Paid replies of the whole run.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of the whole run.")] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0.0, help="US dollars of the whole run.")] = None,
    deadline: Annotated[float | None, typer.Option(min=0.0, help="Seconds after which a step goes on without the rest.")] = None,
    latency: Annotated[
        str | None, typer.Option(help="How long calls take: recorded, seconds, or lognormal:MEDIAN:SIGMA. Default: recorded.")
    ] = None,
    tokens_per_call: Annotated[
        str | None, typer.Option(metavar="PROMPT,COMPLETION", help="What calls take in tokens where nobody recorded it.")
    ] = None,
    step_size: Annotated[int | None, typer.Option(min=1, help="Pairs of a step. Default: as recorded, or 1536.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    resamples: Annotated[int, typer.Option(min=100, help="Resamples behind the intervals.")] = 1000,
    csv: Annotated[Path | None, typer.Option(help="Write one row for each policy and share there.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg|png", help="Draw accuracy against calls, tokens and time.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say which policy and threshold suit the data, what that costs, and whether routing beats random at all.

    Plays the real plan, threshold and budget in virtual time over recorded verdicts; nothing is asked and nothing is written. Intervals are
    95 %, from resampled prompts. With labels the measure is accuracy, without them agreement with the full judge.

    Example: judgeflow replay judged.jsonl --template verdict-scale --scorer mean-z --share 0.2 --requests-per-minute 200
    """
    from judgeflow.cli.plots import check_plots
    from judgeflow.replay.evidence import ORDERS
    from judgeflow.replay.findings import POLICIES, find
    from judgeflow.replay.read import with_labels

    _protect({"--csv": csv, "--plot": plot}, [Path(source), *([config] if config else []), *([labels] if labels else [])])
    _require("--orders", ORDERS, [orders] if orders else [])
    _require("--policy", POLICIES, policy or [])
    if plot is not None:
        check_plots(plot)
    shares = list(dict.fromkeys(share or [SHARE]))
    if min(shares) <= 0:
        raise typer.BadParameter("a share is above 0 and at most 1; policy never is played anyway", param_hint="--share")
    prompt, completion = _tokens(tokens_per_call)
    trace = _read(source, run=run, scorer=scorer, template=template, on_bad_record=on_bad_record)
    trace = trace if labels is None else with_labels(trace, labels)
    changes = {
        "orders": orders,
        "tokens_per_minute": tokens_per_minute,
        "max_in_flight": max_in_flight,
        "budget_requests": budget_requests,
        "budget_tokens": budget_tokens,
        "budget_usd": budget_usd,
        "step_deadline_s": deadline,
        "latency": latency,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "step_size": step_size,
        "judges": (judge,) if judge else None,
        "seed": seed,
    }
    base = _base(config, {name: value for name, value in changes.items() if value is not None})
    grid = list(_grid(base, shares, policy, requests_per_minute, trace))
    found = find(trace, base, grid, shares, chosen_orders=orders is not None, resamples=resamples)
    _tell(found, csv=csv, plot=plot, as_json=json)


def _read(source: str, *, run: str | None, scorer: str | None, template: str, on_bad_record: str) -> Trace:
    import asyncio

    from judgeflow.errors import UsageError
    from judgeflow.records import place
    from judgeflow.replay.read import read_database, read_file

    if on_bad_record not in {"fatal", "skip"}:
        raise typer.BadParameter("accepted are fatal and skip", param_hint="--on-bad-record")
    if "://" not in source and not Path(source).exists():
        raise UsageError(f"{source}: no such file; name a verdict database, or a file of pair records with recorded verdicts")
    if Path(source).suffix not in _SUFFIXES:
        return asyncio.run(read_database(source, run=run, scorer=scorer))
    if run is not None:
        raise UsageError(f"--run {run}: {source} is a file of records, which has no runs; name a verdict database")

    def tell(record: BadRecord) -> None:
        typer.echo(f"{place(Path(source), record.line)}: skipped: {record.reason}", err=True)

    return read_file(source, scorer=scorer, template=template, on_bad_record="skip" if on_bad_record == "skip" else "fatal", tell=tell)


def _protect(written: Mapping[str, Path | None], read: Sequence[Path]) -> None:
    """Raise `UsageError` where a file that is to be written is one that is read, or a database."""
    from judgeflow.errors import UsageError

    for option, path in written.items():
        if path is None or not path.exists():
            continue
        if any(other.exists() and path.samefile(other) for other in read):
            raise UsageError(f"{option} {path} would overwrite what is replayed; name another file")
        if path.is_file() and _beginning(path) == _DATABASE:
            raise UsageError(f"{option} {path} would overwrite a database; name another file")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(_DATABASE))


def _require(option: str, accepted: Sequence[str], given: Sequence[str]) -> None:
    wrong = [each for each in given if each not in accepted]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]}: accepted are {', '.join(accepted)}", param_hint=option)


def _tokens(given: str | None) -> tuple[int | None, int | None]:
    if given is None:
        return None, None
    parts = given.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise typer.BadParameter("expected two whole numbers, for instance 1700,310", param_hint="--tokens-per-call")
    return int(parts[0]), int(parts[1])


def _base(config: Path | None, changes: dict[str, Any]) -> WhatIf:
    """The settings that all what-ifs share; a threshold that adapts needs something to adapt to, so the share comes later."""
    import dataclasses

    from judgeflow.config import load_config
    from judgeflow.replay.whatif import WhatIf

    if config is None:
        return WhatIf(**({"max_share": SHARE} | changes))
    return dataclasses.replace(WhatIf.from_settings(load_config(config)), **changes)


def _grid(
    base: WhatIf, shares: Sequence[float], policies: Sequence[str] | None, rates: Sequence[int] | None, trace: Trace
) -> Iterator[WhatIf]:
    """Yield every combination that is to be played in time: `never` and `always` once, the others with each share."""
    import dataclasses

    from judgeflow.replay.findings import playable

    windows: Sequence[int | None] = rates or [base.requests_per_minute]
    for name, rate in itertools.product(policies or playable(trace), windows):
        for share in shares if name not in {"never", "always"} else [1.0]:
            yield dataclasses.replace(base, policy=name, max_share=share or None, requests_per_minute=rate)  # type: ignore[arg-type]


def _tell(found: Found, *, csv: Path | None, plot: Path | None, as_json: bool) -> None:
    from judgeflow.cli.replay_screen import print_screen, write_csv

    if csv is not None:
        write_csv(found, csv)
    if plot is not None:
        from judgeflow.cli.replay_plot import write_plot

        write_plot(found, plot)
    if as_json:
        import orjson

        print(orjson.dumps(found.as_record(), option=orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        print_screen(found)

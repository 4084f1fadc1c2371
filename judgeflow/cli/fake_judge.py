"""judgeflow fake-judge: an OpenAI-compatible judge that misbehaves on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from judgeflow.cli.completion import template_names
from judgeflow.cli.interrupt import stop_on_signals
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from judgeflow.testing.fake_judge import FakeJudge
    from judgeflow.testing.opinions import Speaker
    from judgeflow.types import Pair


def fake_judge(
    *,
    pairs: Annotated[Path | None, typer.Option(help="JSONL of labelled pairs: the judge knows their labels.")] = None,
    replay: Annotated[Path | None, typer.Option(help="JSONL of pairs with recorded replies: the judge gives them again.")] = None,
    judge: Annotated[str | None, typer.Option(help="Which recorded judge to replay: NAME or NAME/REPETITION.")] = None,
    accuracy: Annotated[float, typer.Option(help="Probability of being right about a labelled pair.")] = 0.9,
    position_bias: Annotated[float, typer.Option(help="Probability of choosing the response shown first.")] = 0.0,
    tie_rate: Annotated[float, typer.Option(help="Probability of calling a pair a tie.")] = 0.0,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", autocompletion=template_names, help="Use this template's final tags instead of looking for them."
        ),
    ] = None,
    latency: Annotated[str, typer.Option(help="Seconds: 0.05, uniform:0.1:0.3 or lognormal:MEDIAN:SIGMA.")] = "0",
    faults: Annotated[str, typer.Option(help="Probabilities (429:0.1,hang:0.01) or a script (500,429,ok).")] = "",
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests of one API key in any window.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Tokens of one API key in any window.")] = None,
    window_s: Annotated[float, typer.Option(help="Length of the sliding window in seconds.")] = 60.0,
    charge: Annotated[Literal["reserved", "actual"], typer.Option(help="Charge prompt + max tokens, or real usage.")] = "reserved",
    max_concurrency: Annotated[int | None, typer.Option(help="Requests of one API key under way at once.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Accept this API key; may be repeated. None: accept all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Serve this model; may be repeated. Default: fake-judge; any in replay.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8399,
    seed: Annotated[int, typer.Option(help="Another seed gives other opinions, latencies and faults.")] = 0,
) -> None:
    """Run a local judge that misbehaves on request.

    Point any client at http://127.0.0.1:8399/v1, and look at
    http://127.0.0.1:8399/stats for what it has counted. The same question
    always gets the same answer.

    Faults: 429, 429-bare, quota, 400, 500, 503, 504, hang, reset, cut-off,
    truncated-json, garbage, error-200, null, no-tag, length, refusal,
    content-filter, reasoning, content-parts, surrogate, odd-usage,
    odd-fields, slow. With probabilities they come by chance; a list without
    any is a script, used up in order of arrival.

    Example: judgeflow fake-judge --pairs pairs.jsonl --faults 429:0.1,hang:0.01
    """
    import asyncio

    from judgeflow.testing.fake_judge import FakeJudge
    from judgeflow.testing.limits import JudgeLimits

    if pairs and replay:
        raise _mistake("--pairs and --replay exclude each other: a judge has opinions, or repeats recorded replies")
    if judge and not replay:
        raise _mistake("--judge chooses among recorded judges: give --replay FILE with it")
    rates = {"accuracy": accuracy, "position_bias": position_bias, "tie_rate": tie_rate}
    speaker, about = _recorded(replay, judge) if replay else _opinionated(pairs, rates, template, seed)
    limits = JudgeLimits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        window_s=window_s,
        max_concurrency=max_concurrency,
        charge=charge,
    )
    server = FakeJudge(
        speaker, faults=faults, latency=latency, limits=limits, models=model, api_keys=api_key or (), seed=seed, host=host, port=port
    )
    asyncio.run(_serve(server, about))


def _mistake(message: str) -> Exception:
    from judgeflow.errors import ConfigurationError

    return ConfigurationError(message)


def _recorded(path: Path, judge: str | None) -> tuple[Speaker, str]:
    """Who replays the file, and what to say about it."""
    from judgeflow.testing.recorded import recording

    speaker = recording(_read(path), judge)
    return speaker, f"{speaker.pairs} recorded pairs of {speaker.judge}"


def _opinionated(path: Path | None, rates: Mapping[str, float], template: str | None, seed: int) -> tuple[Speaker, str]:
    """Who has opinions about the file's pairs, and what to say about it."""
    from judgeflow.testing.opinions import Opinions
    from judgeflow.verdicts.prompt import load_template

    labelled = [pair for pair in (_read(path) if path else []) if pair.label is not None]
    tags = None if template is None else load_template(template).verdicts
    speaker = Opinions(
        truth=Opinions.truths(labelled),
        accuracy=rates["accuracy"],
        position_bias=rates["position_bias"],
        tie_rate=rates["tie_rate"],
        verdict_format=tags,
        seed=seed,
    )
    return speaker, f"{len(labelled)} labelled pairs, accuracy {speaker.accuracy:g}" if path else "steady opinions, no labels"


def _read(path: Path) -> list[Pair]:
    """The usable pairs of a file; what is not usable is left out with a word about it, since nobody can ask about it."""
    from judgeflow.adapters.datasets import scan_dataset
    from judgeflow.errors import UsageError

    try:
        scan = scan_dataset(path)
    except UsageError as error:
        raise _mistake(str(error)) from None
    for record in scan.bad[:10]:
        typer.echo(f"{record.place}: left out: {record.reason}", err=True)
    if len(scan.bad) > 10:
        typer.echo(f"... and {len(scan.bad) - 10} more left out", err=True)
    return list(scan.pairs)


async def _serve(server: FakeJudge, about: str) -> None:
    import asyncio

    stop = asyncio.Event()
    stop_on_signals(asyncio.get_running_loop(), stop)
    async with server:
        typer.echo(f"fake judge at {server.base_url} ({about})", err=True)
        await stop.wait()
    seen = server.statistics
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items())) or "none"
    typer.echo(f"fake judge stopped: {plural(seen.requests, 'request')}, {seen.answered:,} answered (by status: {statuses})", err=True)

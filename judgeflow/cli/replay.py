"""`judgeflow replay`: what other policies, limits and budgets would have come to, over verdicts that are paid for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from judgeflow.cli import replay_options as options
from judgeflow.cli.options import ShowProgress

if TYPE_CHECKING:
    from judgeflow.records import Unusable
    from judgeflow.replay.compare import Compared
    from judgeflow.replay.trace import Trace

_KEPT = "a replay only reads, and nothing of it was written; the same command begins again"
_SUFFIXES = {".jsonl", ".json", ".parquet", ".gz"}


def replay(
    source: options.Source,
    config: options.ConfigFile = None,
    run: options.Run = None,
    judge: options.Judges = None,
    scorer: options.Scorer = None,
    template: options.Template = "default",
    on_bad_record: options.OnBadRecord = "fatal",
    pairs: options.Pairs = None,
    labels: options.Labels = None,
    share: options.Shares = None,
    orders: options.Orders = None,
    policy: options.Policies = None,
    requests_per_minute: options.Rates = None,
    tokens_per_minute: options.TokenRate = None,
    max_in_flight: options.InFlight = None,
    budget_requests: options.BudgetRequests = None,
    budget_tokens: options.BudgetTokens = None,
    budget_usd: options.BudgetUsd = None,
    deadline: options.Deadline = None,
    latency: options.LatencyOf = None,
    tokens_per_call: options.TokensPerCall = None,
    step_size: options.StepSize = None,
    seed: options.Seed = 0,
    resamples: options.Resamples = 1000,
    csv: options.Csv = None,
    plot: options.Plot = None,
    progress: ShowProgress = True,
    json: options.AsJson = False,
) -> None:
    """Say which policy and threshold suit the data, what that costs, and whether routing beats random at all.

    Plays the real plan, threshold and budget in virtual time over recorded verdicts; nothing is asked and nothing is written. Intervals are
    95 %, from resampled prompts. With labels the measure is accuracy, without them agreement with the full judge.

    Example: judgeflow replay judged.jsonl --template verdict-scale --scorer mean-z --share 0.2 --requests-per-minute 200
    """
    from judgeflow.cli.csv_file import one_on_stdout
    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.plots import check_plots
    from judgeflow.cli.progress import activity
    from judgeflow.replay.compare import compare

    aside = one_on_stdout({"--csv": csv}, as_json=json)
    options.protect({"--csv": csv, "--plot": plot}, [Path(source), config, labels, pairs])
    if plot is not None:
        check_plots(plot)
    shares = options.some_shares(share)
    given = {
        "orders": orders,
        "tokens_per_minute": tokens_per_minute,
        "max_in_flight": max_in_flight,
        "budget_requests": budget_requests,
        "budget_tokens": budget_tokens,
        "budget_usd": budget_usd,
        "step_deadline_s": deadline,
        "latency": latency,
        "step_size": step_size,
        "seed": seed,
        **options.tokens(tokens_per_call),
    }
    with interruptible(lambda: _KEPT), activity(wanted=progress) as tell:
        trace = _read(source, run=run, scorer=scorer, template=template, pairs=pairs, on_bad_record=on_bad_record)
        trace = _with_files(trace, pairs, labels)
        base = options.base(config, given)
        grid = list(options.grid(base, shares, policy, requests_per_minute, trace))
        found = compare(trace, judge or [], base, grid, shares, chosen_orders=orders is not None, resamples=resamples, tell=tell)
    _tell(found, csv=csv, plot=plot, as_json=json, aside=aside)


def _read(source: str, *, run: str | None, scorer: str | None, template: str, pairs: Path | None, on_bad_record: str) -> Trace:
    import asyncio

    from judgeflow.cli.records import tell_skipped
    from judgeflow.errors import UsageError
    from judgeflow.replay.read import read_database, read_file

    if "://" not in source and not Path(source).exists():
        raise UsageError(f"{source}: no such file; name a verdict database, or a file of pair records with recorded verdicts")
    if Path(source).suffix not in _SUFFIXES:
        return asyncio.run(read_database(source, run=run, scorer=scorer))
    if run is not None:
        raise UsageError(f"--run {run}: {source} is a file of records, which has no runs; name a verdict database")

    def tell(record: Unusable) -> None:
        tell_skipped(record.place, record.reason)

    leave_out = on_bad_record == "skip"
    return read_file(source, scorer=scorer, template=template, pairs=pairs, on_bad_record="skip" if leave_out else "fatal", tell=tell)


def _with_files(trace: Trace, pairs: Path | None, labels: Path | None) -> Trace:
    from judgeflow.replay.read import with_labels, with_order

    if pairs is not None and not trace.placed.all():
        trace = with_order(trace, pairs)
    return trace if labels is None else with_labels(trace, labels)


def _tell(found: Compared, *, csv: Path | None, plot: Path | None, as_json: bool, aside: bool) -> None:
    from judgeflow.cli.replay_screen import print_screen

    if csv is not None:
        from judgeflow.cli.replay_rows import write_csv

        write_csv(found.found, csv)
    if plot is not None:
        from judgeflow.cli.replay_plot import write_plot

        write_plot(found.found, plot)
    if as_json:
        import orjson

        print(orjson.dumps(found.as_record(), option=orjson.OPT_SERIALIZE_NUMPY).decode())
    else:
        print_screen(found, aside=aside)

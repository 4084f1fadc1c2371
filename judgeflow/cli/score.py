"""`judgeflow score`: what a scorer believes of pairs, and what that is worth where the answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli.options import DType, OnBadRecord, ShowProgress
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from judgeflow.adapters.scores import BenchmarkScore
    from judgeflow.model.quality import Quality
    from judgeflow.model.scorer import SngpScorer
    from judgeflow.types import Pair, Preference

CHUNK = 2048
"""Pairs that are scored at a time: enough for batches of similar length, little enough for a moving bar."""


def score(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS.jsonl", help="Pairs: a .jsonl, .json or .parquet file, a folder, or a name of the hub.")
    ],
    scorer: Annotated[Path, typer.Option("--scorer", "-s", metavar="DIR", help="Folder of a scorer, as judgeflow train writes it.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="SCORES.jsonl", help="Where the preferences go, in input order.")
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the scorer on the pairs that have a label.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg|.png", help="Draw what --evaluate measures. Needs matplotlib.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")] = "auto",
    dtype: Annotated[DType, typer.Option(help="What the scorer computes in; auto: bfloat16 on a GPU.")] = "auto",
    max_batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one batch, padding included. Default: 4096, on a GPU 65536.")
    ] = None,
    kind: PairsFormat = "auto",
    subset: PairsSubset = None,
    split: PairsSplit = None,
    columns: PairsColumns = None,
    on_bad_record: Annotated[OnBadRecord, typer.Option(help="fatal: stop before scoring; skip: leave bad records out.")] = "fatal",
    progress: ShowProgress = True,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Score pairs: logit, probability and uncertainty of each.

    Example: judgeflow score pairs.jsonl --scorer scorer --out scores.jsonl --evaluate
    """
    import time

    from judgeflow.cli.benchmark import benchmark_of
    from judgeflow.cli.plots import write_plots
    from judgeflow.cli.progress import activity
    from judgeflow.cli.records import read_records, reading_of
    from judgeflow.model.checkpoint import read_summary
    from judgeflow.model.scorer import SngpScorer

    _check(pairs, out, plot, evaluate=evaluate)
    records = read_records(pairs, on_bad_record, reading_of(kind, split, subset, columns))
    model = SngpScorer.load(scorer, device=device, dtype=dtype, max_batch_tokens=max_batch_tokens)
    started = time.monotonic()
    preferences: list[Preference] = []
    with activity(wanted=progress) as tell:
        for start in range(0, len(records), CHUNK):
            tell("scoring", start, len(records))
            preferences += model.score(records[start : start + CHUNK])
    seconds = time.monotonic() - started
    if out is not None:
        _write(out, records, preferences)
    found = _quality(records, preferences) if evaluate else None
    judged = [(pair, preference.logit) for pair, preference in zip(records, preferences, strict=True)]
    benchmark = benchmark_of(judged) if evaluate else None
    if found is not None and plot is not None:
        write_plots(found, plot)
    trained = read_summary(scorer)["training"]
    written = {"out": out, "plot": plot}
    _report(len(records), model, seconds, found, benchmark=benchmark, trained=trained, written=written, as_json=json)


def _check(pairs: Path, out: Path | None, plot: Path | None, *, evaluate: bool) -> None:
    """Raise `UsageError` for options that would end in nothing, or destroy the pairs, before anything is scored."""
    from judgeflow.cli.outcomes_file import require_other
    from judgeflow.cli.plots import check_plots
    from judgeflow.errors import UsageError

    if plot is not None and not evaluate:
        raise UsageError("--plot draws what --evaluate measures: give both")
    if out is None and not evaluate:
        raise UsageError("nothing would come of this: name --out SCORES.jsonl, or ask for --evaluate, or both")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is None:
            continue
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{option} {path}: the folder {path.absolute().parent} does not exist")
        if path.is_dir():
            raise UsageError(f"{option}: {path} is a folder; name a file in it")
        require_other(f"{option} {path}", [path], {pairs: "the pairs"})
    if plot is not None:
        check_plots(plot)


def _write(out: Path, pairs: Sequence[Pair], preferences: Sequence[Preference]) -> None:
    import orjson

    from judgeflow.errors import UsageError
    from judgeflow.records import preference_record

    try:
        with out.open("wb") as stream:
            for pair, preference in zip(pairs, preferences, strict=True):
                stream.write(orjson.dumps(preference_record(pair, preference), option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}") from None


def _report(
    pairs: int,
    model: SngpScorer,
    seconds: float,
    found: Quality | None,
    *,
    benchmark: BenchmarkScore | None,
    trained: Mapping[str, Any],
    written: Mapping[str, Path | None],
    as_json: bool,
) -> None:
    import dataclasses

    import orjson

    from judgeflow.cli.benchmark import benchmark_record, benchmark_rows
    from judgeflow.cli.quality import print_table, quality_rows

    seen = dataclasses.asdict(model.seen)
    if as_json:
        record: dict[str, Any] = {"scorer": model.fingerprint, "pairs": pairs, "device": model.device, "seconds": seconds, **seen}
        record |= {name: None if path is None else str(path) for name, path in written.items()}
        record["benchmark"] = benchmark_record(benchmark)
        print(orjson.dumps(record | {"quality": None if found is None else dataclasses.asdict(found), "trained": trained}).decode())
        return
    rows = [("pairs", f"{pairs:,} on {model.device}, {seconds:.1f} s, {pairs / max(seconds, 1e-9):,.0f} pairs/s")]
    rows.append(("texts", f"{seen['texts']:,} distinct, {seen['tokens']:,} tokens" + _cut(seen)))
    rows += [*quality_rows(found, of="labelled pairs"), *_trained_rows(trained)] if found is not None else []
    rows += benchmark_rows(benchmark)
    names = {"out": "preferences", "plot": "plots"}
    rows += [(names[name], str(path)) for name, path in written.items() if path is not None]
    print_table(f"scorer {model.fingerprint}", rows)


def _trained_rows(trained: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What training found of the same scorer, on prompts it had not seen: how far the pairs at hand are from those."""
    then = trained["validation"]
    rows = [("when trained, unseen prompts", f"accuracy {then['accuracy']:.3f}, calibration error {then['ece']:.3f} of {then['pairs']:,}")]
    if trained["known_share"] is not None:
        rows.append(("known directions, d_eff / D", f"{trained['known_share']:.3f} (tau {trained['prior_precision']:.3g})"))
    return rows


def _cut(seen: dict[str, int]) -> str:
    return f"; {seen['cut_texts']:,} were too long and lost {seen['cut_tokens']:,} tokens" if seen["cut_texts"] else ""


def _quality(pairs: Sequence[Pair], preferences: Sequence[Preference]) -> Quality:
    from judgeflow.errors import UsageError
    from judgeflow.model.data import prefers
    from judgeflow.model.quality import quality

    decided = [(pair, preference) for pair, preference in zip(pairs, preferences, strict=True) if prefers(pair)]
    if not decided:
        raise UsageError("--evaluate: no pair of two different responses has the label a or b; nothing can be measured")
    return quality(
        [preference.logit for _, preference in decided],
        [preference.uncertainty or 1.0 for _, preference in decided],
        [pair.label == "a" for pair, _ in decided],
    )

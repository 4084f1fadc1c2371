"""`judgeflow export`: preference pairs, replies or decisions, from a verdict database into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli.db.common import AsJson, ConfigFile, Url
from judgeflow.cli.options import Exported as What
from judgeflow.cli.options import ExportedForm, ExportedLabel, MinAgreement, ShowProgress, Source
from judgeflow.cli.record_files import STDOUT
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from judgeflow.cli.progress import Tell
    from judgeflow.cli.record_files import RecordFile
    from judgeflow.exchange.exporting import Exported, Tally
    from judgeflow.exchange.preferences import Format
    from judgeflow.parquet import Kind


def export(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.jsonl|.parquet", help="Where records go; - is stdout, as JSONL.")],
    url: Url = None,
    config: ConfigFile = None,
    what: Annotated[What, typer.Option(help="pairs: preferences; calls: every reply; outcomes: what --run decided.")] = "pairs",
    judge: Annotated[str | None, typer.Option(metavar="ID", help="One judge, by its id or the beginning of its fingerprint.")] = None,
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Pairs that this run decided, by the judges that it asked.")] = None,
    source: Annotated[list[Source] | None, typer.Option(help="Pairs that --run decided so; repeatable.")] = None,
    min_agreement: Annotated[
        MinAgreement, typer.Option(help="both: the two orders prefer the same; any: one does and none objects.")
    ] = "both",
    strong_only: Annotated[bool, typer.Option("--strong-only", help="Both orders prefer clearly.")] = False,
    include_ties: Annotated[bool, typer.Option("--include-ties", help='Take ties, with the label "tie".')] = False,
    label: Annotated[ExportedLabel, typer.Option(help="verdict: what a judge prefers; label: what is known to be better.")] = "verdict",
    split_by_prompt: Annotated[
        float | None, typer.Option(metavar="FRACTION", help="Hold out about this share of the prompts, in a file of their own.")
    ] = None,
    form: Annotated[ExportedForm, typer.Option("--format", help="text, or messages: prompt and responses as chat messages.")] = "text",
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Write what a verdict database holds: preference pairs to train on, or replies to analyse.

    Records come in the order of their pair keys, so the same database gives the same file.

    Example: judgeflow export --out preferences.jsonl --split-by-prompt 0.1
    """
    import asyncio
    import contextlib
    import sys

    from judgeflow.cli.db.common import address_of
    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.progress import activity
    from judgeflow.exchange.exporting import Tally

    _check(what, run, source or [], split_by_prompt, out)
    address = address_of(url, config)
    tally = Tally()
    records, columns = _records(
        address,
        what,
        judge,
        run,
        source,
        tally,
        both=min_agreement == "both",
        strong=strong_only,
        ties=include_ties,
        label=label,
        form=form,
    )
    files: dict[str, RecordFile] = {}
    with interruptible(lambda: _kept(files)), contextlib.ExitStack() as stack:
        sink = _Sink(stack, out, split_by_prompt, columns, address)
        files.update(sink.files)
        tell = stack.enter_context(activity(wanted=progress and not (out == STDOUT and sys.stdout.isatty())))
        asyncio.run(sink.take(records, tell))
        sink.complete()
    _report(tally, sink, what, as_json=as_json)
    if what == "pairs" and not tally.written and not tally.left_out and not as_json:
        _tell_sources(address, label)


def _kept(files: Mapping[str, RecordFile]) -> str:
    if str(STDOUT) in files:
        records = plural(files[str(STDOUT)].written, "whole record is", "whole records are")
        return f"{records} on stdout, and the rest is missing; the same command begins again"
    whole = [name for name, file in files.items() if file.is_complete]
    left = [name for name, file in files.items() if not file.is_complete]
    if not left:
        return f"{' and '.join(whole) or 'nothing'} is written as a whole"
    written = f"{' and '.join(whole)} is written as a whole; " if whole else ""
    return f"{written}nothing is kept of what was to be {' and '.join(left)}; the same command begins again"


def _tell_sources(address: str, label: str) -> None:
    """Say on stderr what could be exported instead of nothing."""
    import asyncio

    from judgeflow.exchange.exporting import sources

    there = ", ".join(_counted(number, *what.split(" ", 1)) for what, number in asyncio.run(sources(address)).items())
    typer.echo(
        f"no pair of this selection has a {label}; the database has {there or 'no labels and no verdicts'} (--label verdict | label)",
        err=True,
    )


def _counted(number: int, many: str, more: str) -> str:
    return f"{plural(number, many.removesuffix('s'))} {more}"


def _check(what: str, run: str | None, sources: Sequence[str], share: float | None, out: Path) -> None:
    from judgeflow.errors import UsageError

    if run is None and (sources or what == "outcomes"):
        raise UsageError(f"{'--source' if sources else '--what outcomes'} is about the decisions of a run: name it with --run")
    if share is not None and not 0 < share < 1:
        raise UsageError(f"--split-by-prompt {share}: a share between 0 and 1 is expected, for instance 0.1")
    if share is not None and out == STDOUT:
        raise UsageError("--split-by-prompt writes two files: name --out FILE.jsonl")
    if out != STDOUT and out.suffix not in {".jsonl", ".parquet"}:
        raise UsageError(f"--out {out}: a name that ends in .jsonl or .parquet is expected, or - for stdout")


def _records(
    address: str,
    what: str,
    judge: str | None,
    run: str | None,
    source: Sequence[str] | None,
    tally: Tally,
    *,
    both: bool,
    strong: bool,
    ties: bool,
    label: str,
    form: str,
) -> tuple[AsyncGenerator[Exported, None], Mapping[str, Kind]]:
    from judgeflow.exchange import exporting
    from judgeflow.exchange.calls import CALL_COLUMNS
    from judgeflow.exchange.preferences import Demands, preference_columns
    from judgeflow.store.extract import Selection

    selection = Selection(judge=judge, run=run, sources=tuple(source or ()))
    if what == "calls":
        return exporting.calls(address, selection, tally), CALL_COLUMNS
    if what == "outcomes":
        return exporting.outcomes(address, selection, tally), exporting.OUTCOME_COLUMNS
    wanted = Demands(both=both, strong_only=strong, include_ties=ties)
    known_form: Format = "messages" if form == "messages" else "text"
    return (
        exporting.preferences(address, selection, wanted, known_form, tally, by_label=label == "label"),
        preference_columns(known_form),
    )


class _Sink:
    """The one or two files that records go to."""

    def __init__(self, stack: Any, out: Path, share: float | None, columns: Mapping[str, Kind], address: str) -> None:
        from judgeflow.cli.record_files import RecordFile
        from judgeflow.store.engines import file_of

        self._share = share
        names = [out] if share is None else [out.with_name(f"{out.stem}.{part}{out.suffix}") for part in ("train", "test")]
        database = file_of(address)
        inputs = {database: "the verdict database"} if database else {}
        self.files = {str(name): stack.enter_context(RecordFile(name, columns, inputs)) for name in names}

    async def take(self, chunks: AsyncGenerator[Exported, None], tell: Tell) -> None:
        """Write every record to its file."""
        from contextlib import aclosing

        async with aclosing(chunks):
            async for chunk in chunks:
                self._write(chunk)
                tell("exporting", sum(file.written for file in self.files.values()), 0)

    def _write(self, chunk: Exported) -> None:
        from judgeflow.exchange.exporting import held_out

        share, (first, *second) = self._share, self.files.values()
        if share is None:
            first.write(chunk.records)
            return
        aside = [prompt is not None and held_out(prompt, share) for prompt in chunk.prompts]
        first.write([record for record, out in zip(chunk.records, aside, strict=True) if not out])
        second[0].write([record for record, out in zip(chunk.records, aside, strict=True) if out])

    def complete(self) -> None:
        """Let the files take their names."""
        for file in self.files.values():
            file.complete()


def _report(tally: Tally, sink: _Sink, what: str, *, as_json: bool) -> None:
    import json
    import sys

    from judgeflow.exchange.preferences import LEFT_OUT

    files = {name: file.written for name, file in sink.files.items()}
    to_stdout = str(STDOUT) in files
    if as_json:
        record = {
            "what": what,
            "written": tally.written,
            "files": files,
            "left_out": dict(tally.left_out),
            "transcripts": tally.transcripts,
            "several_judges": tally.several_judges,
            "both_ways": tally.both_ways,
        }
        print(json.dumps(record, ensure_ascii=False), file=sys.stderr if to_stdout else sys.stdout)
        return
    noun = what.removesuffix("s")
    lines = [f"{written:,} {noun if written == 1 else what} in {'stdout' if to_stdout else name}" for name, written in files.items()]
    lines += [f"{tally.left_out[reason]:,} left out: {words}" for reason, words in LEFT_OUT.items() if tally.left_out[reason]]
    if tally.transcripts:
        number = plural(tally.transcripts, "prompt is a conversation", "prompts are conversations")
        lines.append(f"{number}, written as a transcript; --format messages keeps the turns")
    for line in lines:
        print(line, file=sys.stderr if to_stdout else sys.stdout)
    if tally.several_judges:
        number = plural(tally.several_judges, "pair has", "pairs have")
        told = f"{number} records of several judges, {tally.both_ways:,} of them chosen both ways"
        print(f"{told}; --judge ID takes one judge's", file=sys.stderr)

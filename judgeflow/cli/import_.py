"""`judgeflow import`: recorded verdicts, scores and labels, from files into a verdict database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from judgeflow.cli.completion import template_names
from judgeflow.cli.db.common import AsJson, ConfigFile, Url
from judgeflow.cli.options import OnBadRecord, ShowProgress
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from judgeflow.adapters.preference_sets import ScoreCheck
    from judgeflow.adapters.sources import Reading
    from judgeflow.exchange.evidence import Finding
    from judgeflow.exchange.importing import Records, Survey
    from judgeflow.records import Unusable
    from judgeflow.store.evidence import Evidence, EvidenceWriter
    from judgeflow.types import JudgeIdentity
    from judgeflow.verdicts.prompt import Template

BATCH = 256
"""Records of one transaction: few enough that a run on the same database hardly waits."""

_OPINIONS = (
    "{:,}: what a judge or a scorer says is no label. To bring verdicts in: "
    "judgeflow db merge, or import what judgeflow export --what calls wrote"
)


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Records: .jsonl, .json or .parquet files, or a data set.")],
    url: Url = None,
    config: ConfigFile = None,
    counts_as: Annotated[
        Path | None, typer.Option("--as", metavar="CONFIG.toml", help="Replies count as those of [judge] in this configuration.")
    ] = None,
    judge: Annotated[str | None, typer.Option(metavar="NAME", help="Take this judge's replies only.")] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", autocompletion=template_names, help="How replies are read. Default: default, or that of --as."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="PAIRS.jsonl", help="The file that judgeflow score has scored: FILE has no texts.")
    ] = None,
    scorer: Annotated[str, typer.Option(metavar="NAME", help="Whose scores those without a name are.")] = "imported",
    kind: PairsFormat = "auto",
    subset: PairsSubset = None,
    split: PairsSplit = None,
    columns: PairsColumns = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Take labels too.")] = True,
    on_bad_record: Annotated[
        OnBadRecord, typer.Option(help="fatal: stop before anything is stored; skip: leave bad records out.")
    ] = "fatal",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the files hold, and store nothing.")] = False,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Take verdicts, scores and labels that are recorded elsewhere into a verdict database.

    First write wins: what is stored already stays, so the same command goes on where it was interrupted, and doing it twice changes
    nothing.

    Example: judgeflow import judged.jsonl --template verdict-scale --url verdicts.db
    """
    import asyncio
    import contextlib
    import time

    from judgeflow.adapters.preference_sets import ScoreCheck
    from judgeflow.cli.db.common import address_of
    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.records import reading_of, tell_doubt
    from judgeflow.exchange.importing import findings, require_one_judge, require_template, survey
    from judgeflow.exchange.replies import Rules
    from judgeflow.store.evidence import EvidenceWriter

    address = address_of(url, config or counts_as)
    read_by, identity = _reading(counts_as, template)
    rules = {
        file: Rules(template=read_by, source=file.name, judge=judge, counts_as=identity, scorer=scorer, labels=labels, pairs=pairs)
        for file in files
    }
    reading = reading_of(kind, split, subset, columns)
    with interruptible(lambda: "nothing was stored yet"):
        checks = {file: ScoreCheck() for file in files}
        found = {file: survey(_records(file, reading, checks[file]), rules[file]) for file in files}
    for file, held in found.items():
        _tell_bad(file, held, on_bad_record)
        tell_doubt(file, checks[file].told())
        require_template(file, held, rules[file])
    require_one_judge(found, rules[files[0]])
    if dry_run:
        _report(found, None, as_json=as_json)
        return
    writer = asyncio.run(EvidenceWriter.open(address))
    done = dict.fromkeys(files, 0)
    with interruptible(lambda: _kept(found, done)), contextlib.closing(writer):
        _write(
            writer, found, lambda file: findings(_records(file, reading, ScoreCheck()), rules[file], time.time()), done, progress=progress
        )
    _report(found, writer, as_json=as_json)


def _reading(counts_as: Path | None, template: str | None) -> tuple[Template, JudgeIdentity | None]:
    """How replies are read, and whose they count as if not their own judge's."""
    from judgeflow.verdicts.prompt import load_template

    if counts_as is None:
        return load_template(template or "default"), None
    from judgeflow.config import load_config
    from judgeflow.errors import UsageError
    from judgeflow.judges.client import identity_of

    settings = load_config(counts_as)
    loaded = load_template(settings.judge.template, settings.path("."))
    if template is not None and load_template(template).hash != loaded.hash:
        raise UsageError(f"--template {template}: the judge of {counts_as} is asked with {settings.judge.template}; leave one of them out")
    return loaded, identity_of(settings.judge, loaded)


def _tell_bad(file: Path, found: Survey, on_bad_record: str) -> None:
    """Raise `RecordError` for bad records, or say which are left out."""
    from judgeflow.cli.records import tell_skipped
    from judgeflow.errors import RecordError
    from judgeflow.records import refusal

    if found.bad and on_bad_record == "fatal":
        raise refusal(found.bad, "Nothing was stored.", count=found.bad_count)
    for record in found.bad:
        tell_skipped(record.place, record.reason)
    if found.bad_count > len(found.bad):
        typer.echo(f"{file}: skipped: {found.bad_count - len(found.bad):,} more", err=True)
    if not found.records:
        raise RecordError(f"{file}: holds no usable record")


def _records(file: Path, reading: Reading, check: ScoreCheck) -> Records:
    """The records of a file, a folder or a set of the hub: judgeflow's own as they are, of another format the pairs, which `check` sees."""
    from judgeflow.adapters.datasets import formatted_records
    from judgeflow.adapters.formats import OWN, pairs_of
    from judgeflow.records import Unusable

    for place, kind, record in formatted_records(file, reading, beliefs=True):
        if isinstance(record, Unusable) or kind in OWN:
            yield place, record
            continue
        try:
            pairs = pairs_of(record, kind)
        except ValueError as error:
            yield place, Unusable(place=place, reason=str(error))
            continue
        if kind == "ultrafeedback":
            check.look(pairs)
        yield place, pairs


def _write(
    writer: EvidenceWriter,
    found: Mapping[Path, Survey],
    look: Callable[[Path], Iterable[Finding | Unusable]],
    done: dict[Path, int],
    *,
    progress: bool,
) -> None:
    """Store the records of every file, counting them in `done`."""
    from judgeflow.cli.progress import activity

    with activity(wanted=progress) as tell:
        for file, held in found.items():
            for batch in _batches(look(file)):
                writer.write(batch)
                done[file] += len(batch)
                tell(file.name, done[file], held.records)


def _kept(found: Mapping[Path, Survey], done: Mapping[Path, int]) -> str:
    records = plural(sum(each.records - each.identical for each in found.values()), "record is", "records are")
    return f"{sum(done.values()):,} of {records} stored, if not some more; the same command goes on from there"


def _batches(findings: Iterable[Finding | Unusable]) -> Iterator[Sequence[Evidence]]:
    from judgeflow.exchange.evidence import Finding

    batch: list[Evidence] = []
    for finding in findings:
        if isinstance(finding, Finding) and not finding.evidence.keys.identical:
            batch.append(finding.evidence)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _report(found: Mapping[Path, Survey], writer: EvidenceWriter | None, *, as_json: bool) -> None:
    import json

    from judgeflow.cli.quality import print_table

    total = _total(found)
    stored = {name: {"new": each.new, "known": each.known} for name, each in (writer.taken if writer else {}).items()}
    conflicting = writer.taken["label"].conflicting if writer else 0
    if as_json:
        more = {"conflicting_labels": conflicting if writer else None, "stored": stored or None}
        print(json.dumps({"files": [str(file) for file in found], **total, **more}, ensure_ascii=False))
        return
    rows = [("records", f"{total['records']:,}" + _parts({"skipped": total["skipped"], "of identical responses": total["identical"]}))]
    rows += [(f"replies of {name}", f"{sum(counts.values()):,}" + _parts(_worded(counts))) for name, counts in total["replies"].items()]
    rows += [(f"scores of {name}", f"{count:,}") for name, count in total["scores"].items()]
    rows += [("labels", f"{total['labels']:,}")] if total["labels"] else []
    rows += [("labels left out", _OPINIONS.format(total["opinions"]))] if total["opinions"] else []
    names = {"call": "replies", "score": "scores", "label": "labels"}
    rows += [
        (f"{names[name]} stored", f"{each['new']:,} new, {each['known']:,} known") for name, each in stored.items() if any(each.values())
    ]
    rows += [("labels in conflict", f"{conflicting:,}: the pair has another label already, which stays")] if conflicting else []
    print_table("found, and nothing stored" if writer is None else f"imported into {writer.where}", rows)


def _total(found: Mapping[Path, Survey]) -> dict[str, Any]:
    from collections import Counter

    judges: dict[str, Counter[str]] = {}
    for each in found.values():
        for name, counts in each.judges.items():
            judges.setdefault(name, Counter()).update(counts)
    scores: Counter[str] = sum((each.scores for each in found.values()), Counter())
    return {
        "records": sum(each.records for each in found.values()),
        "skipped": sum(each.bad_count for each in found.values()),
        "identical": sum(each.identical for each in found.values()),
        "replies": {name: dict(sorted(counts.items())) for name, counts in sorted(judges.items())},
        "scores": dict(sorted(scores.items())),
        "labels": sum(each.labels for each in found.values()),
        "opinions": sum(each.opinions for each in found.values()),
    }


def _worded(counts: Mapping[str, int]) -> dict[str, int]:
    words = {
        "by_winner": "unreadable and taken by their recorded winner",
        "winner_only": "without a text, by their recorded winner",
        "unreadable": "unreadable",
        "otherwise": "read otherwise than their recorded winner",
    }
    return {words[how]: number for how, number in counts.items() if how in words}


def _parts(counts: Mapping[str, int]) -> str:
    return "".join(f", {number:,} {what}" for what, number in counts.items() if number)

"""Pairs from a file, a folder or the hub, whatever published format they are in."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from judgeflow.adapters.formats import FORMATS, Format, pairs_of, recognise
from judgeflow.errors import RecordError, UsageError
from judgeflow.parquet import is_parquet, parquet_rows
from judgeflow.records import decode, raw_records
from judgeflow.types import Pair

AUTO = "auto"
_SHOWN = 10
_SUFFIXES = frozenset({".json", ".jsonl", ".parquet"})
_REWARDBENCH_SPLIT = "filtered"
_LOCAL = "a local .json, .jsonl or .parquet file can be given instead of a name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """One record that could not be used: where it stands, and why."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found in one source: the pairs in their order, and the records that could not be used."""

    format: Format
    pairs: tuple[Pair, ...]
    bad: tuple[Unusable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The records of one source, decoded or as lines; a message names one of them by its number after `before`."""

    before: str
    numbered: Iterable[tuple[int, Any]]


def read_dataset(name_or_path: str | Path, *, format: str = AUTO, split: str | None = None) -> list[Pair]:  # noqa: A002  # what users call it
    """Return the pairs of a .json, .jsonl or .parquet file, of a folder, or of a set of the hub, for instance allenai/reward-bench.

    `format` is one of `FORMATS`, or "auto": recognised by the keys of the first record.  `split` is for folders and the hub; RewardBench
    is read in its filtered split.  Raises `RecordError` naming up to ten bad records, `UsageError` if the source cannot be had.
    """
    scan = scan_dataset(name_or_path, format=format, split=split)
    if scan.bad:
        raise bad_records(scan.bad)
    return list(scan.pairs)


def scan_dataset(name_or_path: str | Path, *, format: str = AUTO, split: str | None = None) -> Scan:  # noqa: A002  # what users call it
    """Return what a source holds, bad records beside the pairs.  Raises as `read_dataset`, and `RecordError` if there is no pair at all."""
    kind = _checked(format)
    pairs: list[Pair] = []
    bad: list[Unusable] = []
    rows = _rows(name_or_path, split)
    for number, raw in rows.numbered:
        try:
            record = _decoded(raw)
            kind = kind or _recognised(record)
            pairs += pairs_of(record, kind)
        except ValueError as error:
            bad.append(Unusable(place=f"{rows.before}{number}", reason=str(error)))
    if kind is None or not pairs:
        raise RecordError(
            f"{name_or_path}: holds no usable pair" + (f"; the first bad record is {bad[0].place}: {bad[0].reason}" if bad else "")
        )
    return Scan(format=kind, pairs=tuple(pairs), bad=tuple(bad))


def bad_records(bad: Sequence[Unusable]) -> RecordError:
    """Return the error that names up to ten bad records."""
    shown = [f"{record.place}: {record.reason}" for record in bad[:_SHOWN]]
    more = [f"... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    remedy = "Nothing was begun. Mend the records, or leave them out with --on-bad-record skip."
    return RecordError("\n".join([*shown, *more, remedy]))


def holds_pair_records(path: Path) -> bool:
    """Whether a file is left to `judgeflow.records.read_pairs`: no published benchmark, and what cannot be looked into."""
    if path.is_dir() or _is_hub_name(path):
        return False
    if not path.is_file():
        return True
    try:
        _, first = next(raw_records(path))
        if isinstance(first, bytes) and first.lstrip()[:1] == b"[":
            return False
        return recognise(decode(first)) in {None, "pairs", "preference"}
    except (RecordError, StopIteration, ValueError):
        return True


def _checked(kind: str) -> Format | None:
    found = next((each for each in FORMATS if each == kind), None)
    if found is None and kind != AUTO:
        raise UsageError(f"format {kind}: accepted are {', '.join((AUTO, *FORMATS))}")
    return found


def _recognised(record: Mapping[str, Any]) -> Format:
    kind = recognise(record)
    if kind is None:
        raise ValueError(f"the keys {', '.join(record)} are of no format known; known are {', '.join(FORMATS)} (docs/datasets.md)")
    return kind


def _rows(source: str | Path, split: str | None) -> _Rows:
    path = Path(source)
    if path.is_dir() or _is_hub_name(path):
        return _loaded(str(source), split)
    if split is not None:
        raise UsageError(f"{source}: a file has no splits; leave split away")
    if is_parquet(path):
        return _Rows(before=f"{source}: row ", numbered=parquet_rows(path))
    return _json_rows(path)


def _is_hub_name(path: Path) -> bool:
    """Whether a path that is nowhere here may be OWNER/NAME of the hub."""
    named = len(path.parts) == 2 and not path.is_absolute() and path.parts[0] not in {".", ".."}
    return named and path.suffix not in _SUFFIXES and not path.exists()


def _json_rows(path: Path) -> _Rows:
    """One JSON array, or one object a line."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not content.lstrip().startswith(b"["):
        lines = ((number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip())
        return _Rows(before=f"{path}:", numbered=lines)
    try:
        return _Rows(before=f"{path}: record ", numbered=enumerate(orjson.loads(content), start=1))
    except orjson.JSONDecodeError as error:
        raise RecordError(f"{path}:{error.lineno}: not valid JSON: {error.msg} at column {error.colno}") from None


def _decoded(raw: Any) -> Mapping[str, Any]:
    if isinstance(raw, bytes | Mapping):
        return decode(raw if isinstance(raw, bytes) else dict(raw))
    raise ValueError("a record is a JSON object")


def _loaded(name: str, split: str | None) -> _Rows:
    """What the datasets library makes of a folder or a name."""
    try:
        import datasets
    except ImportError:
        here = "" if Path(name).is_dir() else "there is no such file; as a name of the hub "
        raise UsageError(f'{name}: {here}it needs datasets: pip install "judgeflow[datasets]"; {_LOCAL}') from None
    try:
        found = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{name}: {_why(name, error)}; {_LOCAL}") from None
    if isinstance(found, Mapping):
        split = _chosen_split(name, list(found))
        found = found[split]
    return _Rows(before=f"{name} ({split}): row ", numbered=enumerate(found, start=1))


def _why(name: str, error: Exception) -> str:
    said = str(error).partition("\n")[0] or type(error).__name__
    if Path(name).is_dir():
        return f"the datasets library cannot read this folder: {said}"
    if isinstance(error, ConnectionError):
        return f"there is no such file or folder, and the hub could not be reached: {said}"
    return f"there is no such file or folder, and the hub does not give a set of this name: {said}"


def _chosen_split(name: str, splits: list[str]) -> str:
    if len(splits) == 1:
        return splits[0]
    if _REWARDBENCH_SPLIT in splits:
        return _REWARDBENCH_SPLIT
    raise UsageError(f"{name}: has the splits {', '.join(splits)}; name one (--split)")

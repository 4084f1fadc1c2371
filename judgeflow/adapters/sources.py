"""Records of a file, a folder or a set of the hub, one by one, with the place where each stands."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from judgeflow.errors import RecordError, UsageError
from judgeflow.guises import HEAD, is_array
from judgeflow.parquet import is_parquet
from judgeflow.records import UNREADABLE, Unusable, decode, open_records, place, raw_records, unreadable

AUTO = "auto"
_SUFFIXES = frozenset({".json", ".jsonl", ".parquet", ".gz", ".csv", ".txt"})
_REWARDBENCH_SPLIT = "filtered"
_SPLIT_COLUMN = "split"
_ROWS_AT_A_TIME = 1000
_LOCAL = "a local .jsonl, .json or .parquet file can be given instead of a name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a source is to be read.

    `format` is one of `FORMATS`, or "auto".  `split` is a split of a folder or of the hub, or what a column `split` says.  `subset` is a
    configuration of a set, or a folder in it.  `columns` maps the keys that a record should have to those that it has.
    """

    format: str = AUTO
    split: str | None = None
    subset: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The records of one source, decoded or as lines, numbered; `place` names one by its number, `split` is still to be picked."""

    place: Callable[[int], str]
    numbered: Iterable[tuple[int, Any]]
    split: str | None = None


def records_in(source: str | Path, reading: Reading) -> Iterator[tuple[str, dict[str, Any] | Unusable]]:
    """Yield every record, decoded and with its columns named, after its place; few are in memory at a time.

    Raises `RecordError` and `UsageError` for a source that cannot be had, or has no such split.
    """
    rows = _rows(source, reading)
    seen: dict[str, None] = {}
    picked = False
    for number, raw in rows.numbered:
        where = rows.place(number)
        try:
            record = _decoded(raw)
            if rows.split is not None and not _is_of(record, rows.split, seen, source):
                continue
            picked = True
            yield where, _renamed(record, reading.columns)
        except ValueError as error:
            picked = True
            yield where, Unusable(place=where, reason=str(error))
    if rows.split is not None and not picked:
        raise UsageError(f"{source}: no record has the split {rows.split}; the column split says {', '.join(seen)} (--split)")


def is_elsewhere(path: Path) -> bool:
    """Whether a source is no file: a folder, or a name of the hub."""
    return path.is_dir() or _is_hub_name(path)


def _rows(source: str | Path, reading: Reading) -> _Rows:
    path = Path(source)
    if is_elsewhere(path):
        return _loaded(str(source), reading)
    if reading.subset is not None:
        raise UsageError(f"{source}: a file has no subsets; leave --subset away")
    if not is_parquet(path) and _is_array(path):
        return _Rows(place=lambda number: f"{source}: record {number}", numbered=_array(path), split=reading.split)
    return _Rows(place=lambda number: place(path, number), numbered=raw_records(path), split=reading.split)


def _is_hub_name(path: Path) -> bool:
    """Whether a path that is nowhere here may be OWNER/NAME of the hub."""
    named = len(path.parts) == 2 and not path.is_absolute() and path.parts[0] not in {".", ".."}
    return named and path.suffix not in _SUFFIXES and not path.exists()


def _is_array(path: Path) -> bool:
    """Whether a file of JSON is one array of records; one that cannot be read is said to be none, and says so when it is."""
    try:
        with open_records(path) as stream:
            return is_array(stream.peek(HEAD))
    except UNREADABLE:
        return False


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the records of one JSON array, which has to be in memory as a whole, and let go of each."""
    try:
        with open_records(path) as stream:
            content = stream.read()
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    try:
        found = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        yield from enumerate(_whole(content.decode("utf-8", "replace")), start=1)
        broken = f"not valid JSON: {error.msg} at column {error.colno}; what follows in this array cannot be read"
        raise RecordError(f"{path}:{error.lineno}: {broken}: mend it, or write one record a line") from None
    del content
    found.reverse()
    for number in range(1, len(found) + 1):
        yield number, found.pop()


def _whole(content: str) -> Iterator[Any]:
    """Yield the records of a broken array that stand before the break."""
    decoder, at = json.JSONDecoder(), content.index("[") + 1
    while True:
        try:
            record, at = decoder.raw_decode(content, _AND_ON.match(content, at).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            return
        yield record


_AND_ON = re.compile(r"[\s,]*")


def _decoded(raw: Any) -> dict[str, Any]:
    if isinstance(raw, bytes | dict):
        return decode(raw)
    raise ValueError("a record is a JSON object")


def _renamed(record: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A record whose keys are those that the formats know."""
    if not columns:
        return record
    missing = [name for name in columns.values() if name not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} of --columns is missing; the keys are {', '.join(map(str, record)) or 'none'}")
    named = {ours: record[theirs] for ours, theirs in columns.items()}
    return {key: value for key, value in record.items() if key not in columns.values()} | named


def _is_of(record: Mapping[str, Any], split: str, seen: dict[str, None], source: object) -> bool:
    """Whether a record is of a split, by the column of that name."""
    if _SPLIT_COLUMN not in record:
        raise UsageError(f"{source}: a file has no splits, and its records no column {_SPLIT_COLUMN}; leave --split away")
    seen[str(record[_SPLIT_COLUMN])] = None
    return bool(record[_SPLIT_COLUMN] == split)


def _loaded(name: str, reading: Reading) -> _Rows:
    """What the datasets library makes of a folder or a name."""
    try:
        import datasets
    except ImportError:
        here = "" if Path(name).is_dir() else "there is no such file; as a name of the hub "
        raise UsageError(f'{name}: {here}it needs datasets: pip install "judgeflow[datasets]"; {_LOCAL}') from None
    try:
        found, of_column = _split_of(datasets, name, reading)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{name}: {_why(datasets, name, reading, error)}") from None
    return _Rows(place=lambda number: f"{name} ({found.split}): row {number}", numbered=_table(found), split=of_column)


def _split_of(datasets: Any, name: str, reading: Reading) -> tuple[Any, str | None]:
    """The split that is asked for, and what its column `split` has to say where that is meant."""
    which: dict[str, str] = {}
    if reading.subset is not None:
        known = datasets.get_dataset_config_names(name)
        which = {"name": reading.subset} if reading.subset in known else {"data_dir": reading.subset}
    split = reading.split
    if split is not None and not split.isidentifier():
        return datasets.load_dataset(name, split=split, **which), None
    found = datasets.load_dataset(name, **which)
    names = list(found)
    only = found[names[0]] if len(names) == 1 else None
    if split is not None and only is not None and _SPLIT_COLUMN in only.column_names:
        return only, split
    if split is None:
        split = names[0] if only is not None else _REWARDBENCH_SPLIT
    if split in found:
        return found[split], None
    raise UsageError(f"{name}: has the splits {', '.join(names)}; name one (--split)")


def _subsets(datasets: Any, name: str) -> list[str]:
    """The configurations of a folder or a set; none where they cannot be had."""
    try:
        return list(datasets.get_dataset_config_names(name))
    except (OSError, ValueError, datasets.exceptions.DatasetsError):
        return []


def _table(found: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in found.iter(batch_size=_ROWS_AT_A_TIME):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield number, dict(zip(batch, values, strict=True))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _why(datasets: Any, name: str, reading: Reading, error: Exception) -> str:
    said = _first_line(error)
    if error.__cause__ is not None:  # the library's own words say only that it could not
        said = f"{said} ({_first_line(error.__cause__)})"
    if isinstance(error, ConnectionError):
        return f"there is no such file or folder, and the hub could not be reached: {said}; {_LOCAL}"
    subsets = _subsets(datasets, name)
    if len(subsets) > 1 and reading.subset not in subsets:
        return f"has the subsets {', '.join(subsets)}; name one (--subset)"
    of = f" {reading.subset} in" if reading.subset is not None else ""
    if Path(name).is_dir():
        return f"the datasets library cannot read{of} this folder: {said}; {_LOCAL}"
    where = f"does not give{of} a set of this name"
    return f"there is no such file or folder, and the hub {where}: {said}; {_LOCAL}"

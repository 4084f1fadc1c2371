"""What a file is that holds no records as they are read: told by its beginning, with what to do about it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

import orjson

HEAD = 65536
"""So many bytes of a file's beginning are looked at."""

_MAGIC = (
    (b"PAR1", "is Parquet: give it a name that ends in .parquet"),
    (b"\x1f\x8b", "is compressed with gzip: give it a name that ends in .gz"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first (zstd -d)"),
    (b"BZh", "is compressed with bzip2: unpack it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "is compressed with xz: unpack it first (unxz)"),
    (b"SQLite format 3\x00", "is a database of SQLite; judgeflow export writes the records of a verdict database"),
    (b"version https://git-lfs", "is a pointer of Git LFS, and not the file: get that with git lfs pull, or download it by itself"),
)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\x00", b"\x00{", b"[\x00", b"\x00[")
_HTML = re.compile(rb"<(!doctype\s+html|html)\b", re.IGNORECASE)
_PAGE = "is an HTML page: download the file itself (on the hub its address has /resolve/, not /blob/)"
_NAME = re.compile(r'"?\w[\w.-]*"?')
RECORD = 'one JSON object a line is expected, such as {"prompt": "...", "response_a": "...", "response_b": "..."}'


def guise_of(head: bytes) -> str | None:
    """Return what a file is instead, by its first `HEAD` bytes, and what to do; None if some of its lines may be records."""
    known = next((told for magic, told in _MAGIC if head.startswith(magic)), None)
    if known is not None or head.startswith(_UTF_16):
        return known or "is UTF-16: make it UTF-8 (iconv -f UTF-16 -t UTF-8)"
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if _HTML.match(begin):
        return _PAGE
    if is_array(head):
        return "is a JSON array: write each of its records on a line of its own (jq -c '.[]')"
    lines = _lines(head)
    if lines[:1] == [b"{"] and lines[1:2] and lines[1].startswith(b'"'):
        return "holds JSON objects over several lines: write each on one line (jq -c .)"
    return None


def text_of(head: bytes) -> str | None:
    """Return what a file looks like, by its first `HEAD` bytes, if none of its lines begins as a record does; None where one may."""
    lines = _lines(head)
    is_text = len(lines) > 1 and not _is_json(lines[0]) and not any(map(begins_record, lines))
    return _of_text(lines) if is_text else None


def begins_record(line: bytes) -> bool:
    """Whether a line may hold a record, be it a bad one."""
    return line.lstrip().startswith(b"{")


def _lines(head: bytes) -> list[bytes]:
    return [line.strip() for line in head[:HEAD].removeprefix(codecs.BOM_UTF8).splitlines() if line.strip()]


def is_array(head: bytes) -> bool:
    """Whether a file is one JSON array of records, by its beginning, and not lines of which the first holds an array."""
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not begin.startswith(b"[") or begin[1:].lstrip()[:1] not in (b"{", b"]", b""):
        return False
    first, _, rest = begin.partition(b"\n")
    return not (rest.strip() and _is_json(first))


def _of_text(lines: Sequence[bytes]) -> str:
    if any(b"\x00" in line for line in lines):
        return f"holds binary data: {RECORD}"
    first = lines[0].decode("utf-8", "replace")
    for delimiter, name, option in ((",", "CSV", ""), ("\t", "tab-separated text", ', delimiter="\\t"'), (";", "CSV", ', delimiter=";"')):
        cells = first.split(delimiter)
        if len(cells) > 1 and all(map(_NAME.fullmatch, cells)):
            rows = f"[print(json.dumps(row)) for row in csv.DictReader(sys.stdin{option})]"
            return f"looks like {name}: make JSON lines of it, for instance python -c 'import csv, json, sys; {rows}' < FILE > FILE.jsonl"
    return f"looks like plain text, which begins with {beginning(first)}: {RECORD}"


def beginning(text: str) -> str:
    """Return how a text begins, as an error may quote it: short, on one line, nothing that steers a terminal."""
    text = text.strip()
    return repr(text) if len(text) <= _QUOTED else f"{text[:_QUOTED]!r}..."


_QUOTED = 40


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True

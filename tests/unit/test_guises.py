"""A file that is no file of records says what it is, once, and what to do about it."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import sqlite3
import subprocess
import sys
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet

from judgeflow.adapters.datasets import read_dataset
from judgeflow.errors import RecordError
from judgeflow.guises import HEAD, guise_of, is_array, text_of
from judgeflow.records import read_pairs

RECORD = {"prompt": "p", "response_a": "x", "response_b": "y"}
LINE = json.dumps(RECORD).encode()


def _parquet() -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([RECORD]), stream)
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pairs.jsonl", LINE)
    return stream.getvalue()


def _database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table pair (key blob)")
        return connection.serialize()


GUISES = {
    "parquet": (_parquet(), "is Parquet: give it a name that ends in .parquet"),
    "gzip": (gzip.compress(LINE), "is compressed with gzip: give it a name that ends in .gz"),
    "bzip2": (bz2.compress(LINE), "is compressed with bzip2: unpack it first"),
    "xz": (lzma.compress(LINE), "is compressed with xz: unpack it first"),
    "zip": (_zip(), "is a zip archive: unpack it first"),
    "sqlite": (_database(), "is a database of SQLite; judgeflow export writes"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "is a pointer of Git LFS, and not the file"),
    "utf-16": (LINE.decode().encode("utf-16"), "is UTF-16: make it UTF-8"),
    "utf-16-le": (LINE.decode().encode("utf-16-le"), "is UTF-16: make it UTF-8"),
    "html": (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is an HTML page: download the file itself"),
    "csv": (b'prompt,response_a,response_b\np,"x, y",z\n', "looks like CSV: make JSON lines of it, for instance python -c"),
    "csv-bom": (codecs.BOM_UTF8 + b'"prompt";"chosen"\r\n"p";"x"\r\n', 'csv.DictReader(sys.stdin, delimiter=";")'),
    "tabs": (b"prompt\tchosen\trejected\np\tx\ty\n", "looks like tab-separated text: make JSON lines of it"),
    "prose": (b"Dear all,\n\nthis is a letter.\n", "looks like plain text, which begins with 'Dear all,': one JSON object"),
    "latin": (b"caf\xe9 au lait\nand more\n", "looks like plain text, which begins with 'caf"),
    "binary": (b"\x80\x04\x95\n\x00\x00\n", "holds binary data: one JSON object a line is expected"),
    "array": (json.dumps([RECORD], indent=1).encode(), "is a JSON array: write each of its records on a line of its own"),
    "pretty": (json.dumps(RECORD, indent=1).encode(), "holds JSON objects over several lines: write each on one line"),
}


@pytest.mark.parametrize("on_bad_record", ["fatal", "skip"])
@pytest.mark.parametrize("guise", GUISES)
def test_a_file_that_is_something_else_says_so_once(tmp_path, guise, on_bad_record):
    content, told = GUISES[guise]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_pairs(path, on_bad_record=on_bad_record)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("guise", sorted(GUISES.keys() - {"array"}))
def test_a_data_set_that_is_something_else_says_the_same(tmp_path, guise):
    content, told = GUISES[guise]
    path = tmp_path / "set.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_dataset(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [(GUISES["csv"][0], "looks like CSV"), (LINE, "holds JSON: give it a name that ends in .jsonl"), (GUISES["lfs"][0], "Git LFS")],
    ids=["csv", "lines", "lfs"],
)
def test_what_is_called_parquet_and_is_none_says_what_it_is(tmp_path, content, told):
    path = tmp_path / "pairs.parquet"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=told):
        read_pairs(path)


def test_parquet_that_is_cut_off_is_not_told_to_be_something_else(tmp_path):
    path = tmp_path / "pairs.parquet"
    path.write_bytes(_parquet()[:-20])
    with pytest.raises(RecordError, match="cannot be read as Parquet after row 0"):
        read_pairs(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        LINE,
        b"hello world",
        b"# a note\n" + LINE,
        b"[1, 2]\n" + LINE,
        b'[{"a": 1}]\n' + LINE,
        b"{\n" + LINE,
        b'"one text"\n"another"\n',
        b"1\n2\n",
        b'{"prompt": oops}\n' * 3,
        b'{"prompt": "' + b"x" * 2 * HEAD,
    ],
)
def test_lines_of_which_some_may_be_records_are_looked_at_one_by_one(content):
    assert guise_of(content[:HEAD]) is None
    assert text_of(content[:HEAD]) is None
    assert not is_array(content[:HEAD])


@pytest.mark.parametrize("content", [b"[]", b" [\n", b'[{"a": 1}]\n\n', b'[\n {"a": 1}\n]', b'[{"a": "' + b"x" * 2 * HEAD])
def test_an_array_of_records_is_told_from_lines(content):
    assert is_array(content[:HEAD])


def test_the_commands_that_are_named_make_json_lines(tmp_path):
    for guise in ("csv", "csv-bom", "tabs"):
        content = GUISES[guise][0].removeprefix(codecs.BOM_UTF8)
        program = (text_of(content) or "").partition("python -c '")[2].partition("' <")[0]
        done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True, timeout=120)
        (record,) = map(json.loads, done.stdout.splitlines())
        assert record["prompt"] == "p"


def test_one_record_behind_much_text_is_read_where_bad_records_are_skipped(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"# not a record\n" * (HEAD // 10) + LINE + b"\n")
    pairs, bad = read_pairs(path, on_bad_record="skip")
    assert len(pairs) == 1
    assert len(bad) == HEAD // 10

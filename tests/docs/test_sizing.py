"""docs/sizing.md shows what was measured last."""

import re
from pathlib import Path

import pytest

from judgeflow.config import keys_of, sections

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
RESULT = max((ROOT / "benchmarks" / "results").glob("*-step.md"))
MEASURED = RESULT.read_text(encoding="utf-8")


def test_the_page_links_the_newest_results():
    assert re.findall(r"\(\.\./benchmarks/results/(.*?)\)", PAGE) == [RESULT.name]


@pytest.mark.parametrize("row", [line for line in PAGE.splitlines() if re.match(r"\| [\d,]+ \|", line)])
def test_every_row_of_the_page_was_measured(row):
    assert row in MEASURED.splitlines()


def test_tokens_of_a_call_are_those_measured():
    shown, measured = (re.search(r"A call takes ([\d,]+) tokens.*?of at most ([\d,]+)", text, re.DOTALL) for text in (PAGE, MEASURED))
    assert shown.groups() == measured.groups()


def test_every_setting_on_the_page_is_one():
    known = {key for section in sections() for key in keys_of(section)}
    assert set(re.findall(r"`([a-z]+_[a-z_]+)(?:`| =)", PAGE)) <= known

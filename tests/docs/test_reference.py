"""The reference pages name exactly what there is."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from judgeflow import errors
from judgeflow.config import Config
from judgeflow.records import outcome_record
from judgeflow.types import Outcome, Pair, ReadingStatus
from judgeflow.verdicts.prompt import parse_template

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
OUTCOMES = (DOCS / "outcomes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", Config.model_fields)
def test_every_setting_is_documented_with_its_meaning(section):
    text = CONFIGURATION.partition(f"## [{section}]")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", text, re.MULTILINE))
    fields = Config.model_fields[section].annotation.model_fields
    assert rows == {name: field.description for name, field in fields.items()}


def test_the_template_of_the_page_is_a_valid_template():
    (block,) = re.findall(r"^```toml\n(.*?)^```$", CONFIGURATION, re.MULTILINE | re.DOTALL)
    assert set(parse_template(block, "page").verdicts) == set(tomllib.loads(block)["verdicts"])


def test_every_field_of_an_outcome_is_documented():
    record = outcome_record(Outcome(pair=Pair(prompt="p", response_a="a", response_b="b"), logit=0.0, source="scorer"))
    named = set(re.findall(r"`(\w+)`", OUTCOMES.partition("A clear verdict")[0]))
    assert set(record) <= named


def test_every_status_is_documented():
    judge_errors = {cls.status for _, cls in inspect.getmembers(errors, inspect.isclass) if hasattr(cls, "status")}
    own = {"ok", "one_order", "identical", "deadline", "budget", "interrupted", "scorer_failed", "invalid_text", "store_error"}
    readings = {status.value for status in ReadingStatus}
    rows = re.findall(r"^\| (`.*?`) \|", OUTCOMES.partition("| status |")[2], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == judge_errors | own | readings

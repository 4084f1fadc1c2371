"""The reference pages name exactly what there is."""

import dataclasses
import inspect
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest

from judgeflow import errors
from judgeflow.cli.summary import UNASKED, JudgeShare, Share, Summary, summary_rows
from judgeflow.config import Config, LimitsConfig, load_config, section_type
from judgeflow.records import outcome_record
from judgeflow.routing.agreement import ENOUGH, Vote, tally
from judgeflow.types import Cost, Outcome, Pair, Pressure, ReadingStatus
from judgeflow.verdicts.prompt import parse_template

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
OUTCOMES = (DOCS / "outcomes.md").read_text(encoding="utf-8")


def accepted(annotation) -> str:
    """What a setting of this type takes, as the page says it: the values of a Literal, or the kind of value."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in get_args(annotation))
    if get_origin(annotation) in {UnionType, Union}:
        return ", ".join(accepted(each) for each in get_args(annotation) if each is not NoneType)
    if get_origin(annotation) is Annotated:
        return accepted(get_args(annotation)[0])
    kinds = {LimitsConfig: "section", str: "text", int: "integer", float: "number", bool: "`true`, `false`", dict: "table"}
    return kinds[get_origin(annotation) or annotation]


@pytest.mark.parametrize("section", Config.model_fields)
def test_every_setting_is_documented_with_what_it_accepts_and_means(section):
    title = "judges.NAME" if section == "judges" else section
    text = CONFIGURATION.partition(f"## [{title}]")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    fields = section_type(section).model_fields
    assert {name: (values, meaning) for name, _, values, meaning in rows} == {
        name: (accepted(field.annotation), field.description) for name, field in fields.items()
    }


def test_the_template_of_the_page_is_a_valid_template():
    block, _ = re.findall(r"^```toml\n(.*?)^```$", CONFIGURATION, re.MULTILINE | re.DOTALL)
    assert set(parse_template(block, "page").verdicts) == set(tomllib.loads(block)["verdicts"])


def test_the_judges_of_the_page_are_a_valid_configuration(tmp_path):
    _, block = re.findall(r"^```toml\n(.*?)^```$", CONFIGURATION, re.MULTILINE | re.DOTALL)
    (tmp_path / "judgeflow.toml").write_text(block)
    config = load_config(tmp_path / "judgeflow.toml", {"routing.policy": "always"}, {})
    assert (list(config.judges), config.judges["local"].limits.max_in_flight) == (["local"], 16)


def test_every_field_of_an_outcome_is_documented():
    record = outcome_record(Outcome(pair=Pair(prompt="p", response_a="a", response_b="b"), logit=0.0, source="scorer"))
    named = set(re.findall(r"`(\w+)`", OUTCOMES.partition("A clear verdict")[0]))
    assert set(record) <= named


def test_every_status_is_documented():
    judge_errors = {cls.status for _, cls in inspect.getmembers(errors, inspect.isclass) if hasattr(cls, "status")}
    own = {"ok", "one_order", "identical", "deadline", "budget", "interrupted", "scorer_failed", "invalid_text", "store_error"}
    readings = {status.value for status in ReadingStatus}
    rows = re.findall(r"^\| (`.*?`) \|", OUTCOMES.partition("| status |")[2].partition("## ")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == judge_errors | own | readings


def test_every_line_of_the_summary_is_documented():
    summary = Summary(out="o", skipped=1, usd=1.0, remaining={"requests": 1.0}, statuses=Counter(identical=1, budget=1))
    summary.agreement.add(1)
    summary.audited = tally([Vote(prompt=bytes([n]), propensity=0.1, agree=1.0) for n in range(ENOUGH)])
    summary.accuracy = {name: Share(1, 1) for name in ("choice_ab", "choice_ba", "choice", "logit")}
    summary.judges = {"one": JudgeShare(), "two": JudgeShare()}
    summary.pressure = {"one": Pressure(max_in_flight=2, in_flight=1, busy=1)}
    summary.paid = Cost(requests=1)
    one_order = dataclasses.replace(summary, orders="first")
    rows = re.findall(r"^\| `(.*?)` \|", OUTCOMES.partition("## The summary")[2], re.MULTILINE)
    assert set(rows) == {name for each in (summary, one_order) for name, _ in summary_rows(each)}


def test_every_failure_that_makes_an_exit_code_of_1_is_documented():
    (row,) = re.findall(r"^\| 1 \| (.*) \|$", OUTCOMES, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(UNASKED)

"""docs/logs.md names exactly the events that the code can emit, with their fields."""

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

import judgeflow
from judgeflow.observe.metrics import NOTICES
from judgeflow.observe.names import FIELDS

PACKAGE = Path(judgeflow.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "logs.md").read_text(encoding="utf-8")
HANDS_ON = {("engine/events.py", "event"), ("engine/standstill.py", "event"), ("engine/scheduler.py", "event")}
"""Where an event's name is a variable: `Observers` and `Scheduler.notice` pass all on, `Standstill.begin` what its caller says."""


def documented():
    """{event: its fields} of the page."""
    sections = re.split(r"^### `(\w+)`$", PAGE.partition("## Rotation")[0], flags=re.MULTILINE)
    tables = [text.partition("\n## ")[0] for text in sections[2::2]]
    return {event: set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) for event, table in zip(sections[1::2], tables, strict=True)}


def name_of(function):
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@functools.cache
def emitted():
    """{event: its fields} of the code; of fields that are handed on as a mapping, "**"; and where an event's name is a variable."""
    found, variable = defaultdict(set), set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or name_of(node.func) not in {"notice", "_notice", "_give_up"}:
                continue
            gives_up = name_of(node.func) == "_give_up"
            event = node.args[1 if gives_up else 0]
            if isinstance(event, ast.Constant):
                found[event.value] |= {"error"} if gives_up else {keyword.arg or "**" for keyword in node.keywords}
            else:
                variable.add((path.relative_to(PACKAGE).as_posix(), event.id))
    return dict(found), variable


def test_every_notice_is_counted_from_zero():
    assert list(NOTICES) == sorted(emitted()[0])


def test_every_notice_that_the_code_can_give_is_documented_with_its_fields():
    notices, variable = emitted()
    assert variable == HANDS_ON
    pages = documented()
    assert set(pages) == {"call", "step"} | set(notices)
    for event, fields in notices.items():
        assert fields == ({"**"} if event == "limits_tightened" else pages[event]), event


def test_every_documented_field_is_known_to_who_filters_a_log():
    assert list(FIELDS) == sorted(set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)))


@pytest.mark.parametrize("event", sorted(documented()))
def test_every_field_has_a_type_and_says_when_it_is_there(event):
    text = PAGE.partition(f"### `{event}`")[2].partition("\n###")[0].partition("\n## ")[0]
    rows = re.findall(r"^\| `\w+` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert len(rows) == len(documented()[event])
    for kind, _unit, there, meaning in rows:
        assert kind in {"text", "integer", "number", "object", "integer or null", "number or null"}
        assert there
        assert meaning

"""From a reply's text to a reading: the last verdict tag counts, and everything else is told apart.

The order of the checks is part of the version: a refusal is a refusal whatever stands in it; a reply cut off by the token limit is
truncated even if it mentions a tag, since its conclusion is missing; what a model thinks aloud is never its verdict.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from judgeflow.types import Reading, ReadingStatus, Reply
from judgeflow.verdicts.prompt import Grade

PARSER_VERSION = 1
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


def read_reply(reply: Reply, verdicts: Mapping[str, Grade]) -> Reading:
    """Return what `reply` says about the two responses in the order shown.

    `verdicts` maps each tag to its meaning.  Case and white space inside a tag do not matter; of several tags the last one counts.
    """
    if reply.refusal or reply.finish_reason == "content_filter":
        return _silent(ReadingStatus.REFUSED)
    if reply.finish_reason == "length":
        return _silent(ReadingStatus.TRUNCATED)
    finder, pattern, grades = _matcher(tuple(verdicts.items()))
    found = finder.findall(visible_text(reply.text))
    tag = pattern.fullmatch(found[-1]) if found else None
    if tag is None:
        return _silent(ReadingStatus.UNPARSEABLE)
    grade = grades[tag.lastgroup or ""]
    return Reading(status=ReadingStatus.OK, preferred=grade.preferred, strong=grade.strong, parser_version=PARSER_VERSION)


def _silent(status: ReadingStatus) -> Reading:
    return Reading(status=status, parser_version=PARSER_VERSION)


def visible_text(text: str) -> str:
    """Return a reply without the thinking that some servers leave in it.

    A reply that begins with <think> is read after the first </think>, and not at all if that never comes.  Some chat templates put
    the opening tag into the prompt: then a </think> without an opening one ends the thinking.
    """
    if text.lstrip().startswith(THINK_OPEN):
        return text.partition(THINK_CLOSE)[2]
    before, closed, after = text.partition(THINK_CLOSE)
    return after if closed and THINK_OPEN not in before else text


@functools.lru_cache(maxsize=64)
def _matcher(verdicts: tuple[tuple[str, Grade], ...]) -> tuple[re.Pattern[str], re.Pattern[str], dict[str, Grade]]:
    """One pattern that finds any tag, longest first; one that tells which, each in a group of its own; and the group's meaning.

    Without groups the search skips to where a tag may begin, which makes it ten times as fast.
    """
    ordered = sorted(verdicts, key=lambda item: -len(item[0]))
    groups = {f"tag{index}": grade for index, (_, grade) in enumerate(ordered)}
    tags = [_loose(tag) for tag, _ in ordered]
    named = (f"(?P<tag{index}>{tag})" for index, tag in enumerate(tags))
    return re.compile("|".join(tags), re.IGNORECASE), re.compile("|".join(named), re.IGNORECASE), groups


def _loose(tag: str) -> str:
    return r"\s*".join(re.escape(character) for character in tag if not character.isspace())

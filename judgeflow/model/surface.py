"""What can be seen of a response without understanding it: length, layout, style, repetition, overlap with the prompt, refusal, ending.

`FEATURES` is the definition: each row has the feature's name, what it counts, and how.  Counts enter as log(1 + n), shares are in
[0, 1], flags are 0 or 1.  Words are runs of letters, digits and underscores, in lower case; a text without words or characters has
shares of 0.  A checkpoint depends on the exact definition: whoever changes a row raises `SURFACE_VERSION`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from math import log1p
from typing import NamedTuple

from judgeflow.dialogue import transcript
from judgeflow.types import Prompt

SURFACE_VERSION = 2

_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?](?!\S)|[。！？]")  # noqa: RUF001 - what ends a Chinese or Japanese sentence
_BULLET = re.compile(r"[-*•]\s")
_NUMBER = re.compile(r"\d+[.)]\s")
_HEADING = re.compile(r"#+\s")
_BLANK_LINES = re.compile(r"\n\s*\n")
_LONG_PROMPT_WORD, _LONG_WORD = 5, 8
_PROMPT_END, _OPENING = 400, 300

_FIRST_PERSON = frozenset({"i", "my", "me"})
_SECOND_PERSON = frozenset({"you", "your"})
_HEDGES = frozenset({"may", "might", "could", "perhaps", "possibly", "however", "although"})
_SIGNPOSTS = frozenset({"first", "second", "third", "finally", "additionally", "moreover", "furthermore", "overall"})
_SIGNPOST_PHRASES = ("in conclusion", "in summary", "for example")
_GREETING = re.compile(r"\s*(sure|certainly|of course|absolutely|great|thank|hello|hi)\b")
_REFUSALS = ("i'm sorry", "i am sorry", "i apologize", "cannot", "can't", "unable to", "as an ai", "i'm not able")
_CLOSING_MARKS = frozenset(".!?\"')`*:。！？”’")  # noqa: RUF001 - the same ends of sentences


class _Prompt:
    """What features need of a prompt, worked out once for all its responses."""

    def __init__(self, prompt: Prompt) -> None:
        text = transcript(prompt)
        words = _words(text)
        self.length = len(words)
        self.words = frozenset(words)
        self.long_words = frozenset(word for word in self.words if len(word) >= _LONG_PROMPT_WORD)
        self.last_words = frozenset(_words(text[-_PROMPT_END:]))


class _Response:
    """A response to a prompt, taken apart once for all features."""

    def __init__(self, text: str, prompt: _Prompt) -> None:
        self.prompt = prompt
        self.text = text
        self.plain = _plain(text)
        self.words = _WORD.findall(self.plain)
        self.counts = Counter(self.words)
        self.characters = Counter(text)
        self.lines = [line for line in map(str.strip, text.split("\n")) if line]
        self.paragraphs = sum(1 for part in _BLANK_LINES.split(text) if part.strip())
        self.sentences = max(1, len(_SENTENCE_END.findall(text)))
        self.last = text.rstrip()[-1:]

    @property
    def long_words(self) -> int:
        return sum(count for word, count in self.counts.items() if len(word) >= _LONG_WORD)

    @property
    def distinct_trigrams(self) -> float:
        trigrams = list(zip(self.words, self.words[1:], self.words[2:], strict=False))
        return _share(len(set(trigrams)), len(trigrams))

    @property
    def signposts(self) -> int:
        return self.of_words(_SIGNPOSTS) + sum(self.plain.count(phrase) for phrase in _SIGNPOST_PHRASES)

    @property
    def refuses(self) -> bool:
        return any(phrase in self.plain[:_OPENING] for phrase in _REFUSALS)

    def of_words(self, kind: Collection[str]) -> int:
        return sum(self.counts[word] for word in kind)

    def of_characters(self, kind: str) -> int:
        return sum(self.characters[character] for character in kind)

    def share(self, kind: Callable[[str], bool]) -> float:
        """The share of characters that are of a kind."""
        return _share(sum(count for character, count in self.characters.items() if kind(character)), len(self.text))

    def lines_with(self, pattern: re.Pattern[str]) -> int:
        """The number of lines that begin with a pattern."""
        return sum(pattern.match(line) is not None for line in self.lines)

    def shared(self, words: frozenset[str]) -> int:
        return len(words & self.counts.keys())

    def covers(self, words: frozenset[str]) -> float:
        """The share of words that this response has too."""
        return _share(self.shared(words), len(words))


class Feature(NamedTuple):
    """One row of the definition."""

    name: str
    counts: str
    measure: Callable[[_Response], float]


FEATURES = (
    # Length
    Feature("characters", "characters, log", lambda r: log1p(len(r.text))),
    Feature("words", "words, log", lambda r: log1p(len(r.words))),
    Feature("lines", "lines that are not blank, log", lambda r: log1p(len(r.lines))),
    Feature("paragraphs", "texts between blank lines, log", lambda r: log1p(r.paragraphs)),
    Feature("sentences", "ends of sentences, at least one, log", lambda r: log1p(r.sentences)),
    Feature("sentence_length", "words in a sentence, log", lambda r: log1p(max(1, len(r.words)) / r.sentences)),
    Feature("word_length", "characters in a word, mean", lambda r: _share(sum(map(len, r.words)), len(r.words))),
    Feature("relative_length", "words for each word of the prompt, log", lambda r: log1p(len(r.words)) - log1p(r.prompt.length)),
    Feature("nearly_empty", "fewer than three words, flag", lambda r: float(len(r.words) < 3)),
    # Layout
    Feature("bullets", "lines that begin with -, * or •, log", lambda r: log1p(r.lines_with(_BULLET))),
    Feature("numbers", "lines that begin with 1. or 1), log", lambda r: log1p(r.lines_with(_NUMBER))),
    Feature("headings", "lines that begin with #, log", lambda r: log1p(r.lines_with(_HEADING))),
    Feature("bold", "** marks, log", lambda r: log1p(r.text.count("**"))),
    Feature("code_blocks", "``` marks, log", lambda r: log1p(r.text.count("```"))),
    Feature("code", "backquotes, those of blocks too, log", lambda r: log1p(r.of_characters("`"))),
    Feature("tables", "vertical bars, log", lambda r: log1p(r.of_characters("|"))),
    Feature("mathematics", "dollars and backslashes, log", lambda r: log1p(r.of_characters("$\\"))),
    Feature("link", "holds an address, flag", lambda r: float("http" in r.plain)),
    # Style
    Feature("digits", "share of characters", lambda r: r.share(str.isdigit)),
    Feature("capitals", "share of characters", lambda r: r.share(str.isupper)),
    Feature("marks", "share of characters: neither letters, digits nor space", lambda r: r.share(_is_mark)),
    Feature("beyond_ascii", "share of characters", lambda r: r.share(lambda character: not character.isascii())),
    Feature("questions", "question marks, log", lambda r: log1p(r.of_characters("?"))),
    Feature("exclamations", "exclamation marks, log", lambda r: log1p(r.of_characters("!"))),
    Feature("quotes", "double quotes, log", lambda r: log1p(r.of_characters('"“”'))),
    Feature("parentheses", "opening parentheses, log", lambda r: log1p(r.of_characters("("))),
    Feature("colons", "colons, log", lambda r: log1p(r.of_characters(":"))),
    Feature("first_person", "I, my, me, log", lambda r: log1p(r.of_words(_FIRST_PERSON))),
    Feature("second_person", "you, your, log", lambda r: log1p(r.of_words(_SECOND_PERSON))),
    Feature("long_words", "share of words with eight letters or more", lambda r: _share(r.long_words, len(r.words))),
    Feature("signposts", "first, finally, for example ..., log", lambda r: log1p(r.signposts)),
    # Repetition
    Feature("distinct_words", "share of words", lambda r: _share(len(r.counts), len(r.words))),
    Feature("distinct_trigrams", "share of runs of three words", lambda r: r.distinct_trigrams),
    # Overlap with the prompt
    Feature("prompt_covered", "share of the prompt's distinct words that return", lambda r: r.covers(r.prompt.words)),
    Feature("prompt_long_covered", "the same of its words with five letters or more", lambda r: r.covers(r.prompt.long_words)),
    Feature("prompt_end_covered", "the same of the words in its last 400 characters", lambda r: r.covers(r.prompt.last_words)),
    Feature("from_prompt", "share of distinct words that the prompt has too", lambda r: _share(r.shared(r.prompt.words), len(r.counts))),
    # Refusal, hedging, opening and ending
    Feature("refusal", "an apology or cannot in the first 300 characters, flag", lambda r: float(r.refuses)),
    Feature("hedges", "may, might, perhaps, however ..., log", lambda r: log1p(r.of_words(_HEDGES))),
    Feature("greeting", "opens with sure, of course, hello ..., flag", lambda r: float(_GREETING.match(r.plain) is not None)),
    Feature("finished", "ends with a closing mark, flag", lambda r: float(r.last in _CLOSING_MARKS)),
    Feature("ends_asking", "ends with a question mark, flag", lambda r: float(r.last == "?")),
)

NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


class PromptSurface:
    """The surface of responses to one prompt, whose own part is worked out once."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = _Prompt(prompt)

    def of(self, response: str) -> tuple[float, ...]:
        """Return a response's features, in the order of `NAMES`; always finite."""
        taken_apart = _Response(response, self._prompt)
        return tuple(feature.measure(taken_apart) for feature in FEATURES)


def surface_features(prompt: Prompt, response: str) -> tuple[float, ...]:
    """Return the features of one response to one prompt, in the order of `NAMES`; always finite."""
    return PromptSurface(prompt).of(response)


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")  # noqa: RUF001 - the apostrophe of typeset text


def _words(text: str) -> list[str]:
    return _WORD.findall(_plain(text))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _is_mark(character: str) -> bool:
    return not character.isalnum() and not character.isspace()

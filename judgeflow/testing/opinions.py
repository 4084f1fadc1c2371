"""What a fake judge thinks, and how it says so.  Pure: the same question always gets the same answer.

A question is recognised by the nonce that judgeflow's templates put into every prompt.  What was not put by such a template is
recognised by its whole text: it gets a steady answer too, but both orders of a pair are then strangers to each other.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from judgeflow.chance import chance
from judgeflow.errors import ConfigurationError
from judgeflow.keys import pair_keys, question_nonce
from judgeflow.tokens import ESTIMATE_BYTES_PER_TOKEN
from judgeflow.types import Pair
from judgeflow.verdicts.prompt import SLOTS, Grade, Shown, find_question, load_template, packaged_templates

_CONCLUSIONS = {
    1: "The response shown first serves the prompt better.",
    0: "Neither response serves the prompt better than the other.",
    -1: "The response shown second serves the prompt better.",
}
_FILLER = (
    "I compare both responses step by step and look at their facts, their reasoning, the constraints of the prompt and how "
    "clearly each of them says what it has to say."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one request asks.

    `question` names the directed question, `pair` is the same in both orders, `canonical` tells the orders apart,
    `instructions` is the request without the texts to be judged, `shown` are these texts (None if no template of judgeflow's put
    the question), and `max_tokens` is the longest reply it allows.
    """

    question: str
    pair: str
    canonical: bool
    instructions: str
    prompt_tokens: int
    max_tokens: int | None = None
    shown: Shown | None = field(default=None, repr=False)


class Speaker(Protocol):
    """Whatever decides the text of replies: `Opinions`, or a `Recording` of a real judge."""

    def reply(self, asked: Asked) -> str:
        """Return the reply's text.  Raises `NotRecorded` if there is none."""
        ...


class NotRecorded(LookupError):
    """The recording holds no reply to this question in this order."""


def understand(messages: Sequence[Mapping[str, Any]], max_tokens: int | None = None) -> Asked:
    """Return what a request's messages ask.  Content may be a string, null or a list of text parts."""
    contents = [_text_of(message.get("content")) for message in messages]
    text = "\n".join(contents)
    shown = find_question([{"content": content} for content in contents])
    prompt_tokens = sum(count_tokens(content) for content in contents)
    if shown is None:
        name = _hex(text)
        return Asked(question=name, pair=name, canonical=True, instructions=text, prompt_tokens=prompt_tokens, max_tokens=max_tokens)
    first, second = _hex(shown.response_a), _hex(shown.response_b)
    return Asked(
        question=shown.nonce,
        pair=_hex("\x1f".join([_hex(shown.prompt), *sorted((first, second))])),
        canonical=first <= second,
        instructions=_without_texts(text, shown),
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        shown=shown,
    )


def _text_of(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _hex(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _without_texts(text: str, shown: Shown) -> str:
    # What is judged may itself name verdict tags: it must not decide which tags the judge uses.
    for slot in SLOTS:
        before, _, rest = text.partition(f"<{slot}-{shown.nonce}>")
        text = before + rest.partition(f"</{slot}-{shown.nonce}>")[2]
    return text


def count_tokens(text: str) -> int:
    """Return the judge's count of tokens: UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // ESTIMATE_BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """A judge who knows the labels of some pairs, or a rule, and is as good and as biased as it is told to be.

    Every opinion follows from `seed` and the pair.  It is a tie with probability `tie_rate`; otherwise it is right with probability
    `accuracy` (a pair labelled "tie" is rightly called a tie).  With probability `position_bias`, drawn for each order by itself,
    the response shown first is chosen whatever the opinion.  Of a pair without a label the opinion is a coin's, the same in both
    orders.  Half of all opinions are strong ones.

    `verdict_format` maps final tags to meanings (a template's `verdicts`); without it the tags of the packaged template whose
    tags the request names are used.  Replies have about `words` words.  Raises `ConfigurationError` for rates outside 0 to 1.
    """

    truth: Mapping[str, int] = field(default_factory=dict, repr=False)
    accuracy: float = 0.9
    position_bias: float = 0.0
    tie_rate: float = 0.0
    verdict_format: Mapping[str, Grade] | None = None
    words: int = 40
    seed: int = 0
    rule: Callable[[Shown], int] | None = None

    def __post_init__(self) -> None:
        for name in ("accuracy", "position_bias", "tie_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name.replace('_', '-')} is {getattr(self, name)}; give a probability between 0 and 1")

    @staticmethod
    def truths(pairs: Iterable[Pair]) -> dict[str, int]:
        """Return the `truth` of labelled pairs: by nonce, +1 where the response shown first is better, -1 the second, 0 a tie."""
        signs = {"a": 1, "b": -1, "tie": 0}
        truth: dict[str, int] = {}
        for pair in pairs:
            if pair.label is not None:
                forward, backward = nonces(pair)
                truth.setdefault(forward, signs[pair.label])
                truth.setdefault(backward, -signs[pair.label])
        return truth

    def preferred(self, asked: Asked) -> int:
        """Return which response is chosen: +1 the one shown first, -1 the second, 0 neither."""
        if self._chance("position", asked.question) < self.position_bias:
            return 1
        if self._chance("tie", asked.pair) < self.tie_rate:
            return 0
        truth = self._truth(asked)
        if truth is not None and self._chance("right", asked.pair) < self.accuracy:
            return truth
        if truth:
            return -truth
        coin = 1 if self._chance("side", asked.pair) < 0.5 else -1
        return coin if asked.canonical else -coin

    def _truth(self, asked: Asked) -> int | None:
        known = self.truth.get(asked.question)
        return self.rule(asked.shown) if known is None and self.rule and asked.shown else known

    def reply(self, asked: Asked) -> str:
        """Return a short comparison that ends in the verdict's tag."""
        preferred = self.preferred(asked)
        strong = self._chance("strong", asked.pair) < 0.5
        tags = self.verdict_format or tags_of(asked.instructions)
        length = round(self.words * (0.5 + self._chance("length", asked.question)))
        words = _FILLER.split()
        filler = " ".join(words[index % len(words)] for index in range(length))
        return f"{filler}\n\n{_CONCLUSIONS[preferred]}\n\n{tag_for(tags, preferred, strong=strong)}"

    def _chance(self, *about: str) -> float:
        return chance(self.seed, *about)


def nonces(pair: Pair) -> tuple[str, str]:
    """Return the names of a pair's two questions: response_a shown first, response_b shown first."""
    keys = pair_keys(pair)
    return (
        question_nonce(keys.prompt, keys.response_a, keys.response_b),
        question_nonce(keys.prompt, keys.response_b, keys.response_a),
    )


def tags_of(instructions: str) -> Mapping[str, Grade]:
    """Return the final tags that a request asks for: those of the packaged template that has most of its meanings named in it.

    A request that names no such tags is answered with the tags of the template "default".
    """
    candidates = [{tag: grade for tag, grade in tags.items() if tag in instructions} for tags in _packaged_tags()]
    usable = [tags for tags in candidates if {1, -1} <= {grade.preferred for grade in tags.values()}]
    return max(usable, key=lambda tags: len(set(tags.values())), default=_packaged_tags()[0])


@functools.cache
def _packaged_tags() -> tuple[Mapping[str, Grade], ...]:
    names = sorted(packaged_templates(), key=lambda name: name != "default")
    return tuple(load_template(name).verdicts for name in names)


def tag_for(tags: Mapping[str, Grade], preferred: int, *, strong: bool) -> str:
    """Return the tag that says this, or the nearest there is: the other strength, and the first response where ties have no tag."""
    for grade in (Grade(preferred=preferred, strong=strong), Grade(preferred=preferred, strong=not strong)):
        for tag, meaning in tags.items():
            if meaning == grade:
                return tag
    return tag_for(tags, 1, strong=strong)
